"""Text from file names, classes and plug-ins made harmless for where it is shown."""

import re

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def plain(text: str) -> str:
    """Without control characters, terminal escapes and direction marks; each becomes `?`."""
    return CONTROL.sub("?", text)


def csv_text(text: str) -> str:
    """A text cell that no spreadsheet runs as a formula: one that could start one gets a leading quote."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def latex(text: str) -> str:
    """Text with every character that LaTeX would act on replaced."""
    return "".join(LATEX.get(character, character) for character in plain(text))
