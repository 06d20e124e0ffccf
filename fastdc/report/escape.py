"""Text from file names, classes and plug-ins made harmless for the format that shows it."""

from fastdc.text import plain

__all__ = ["csv_text", "latex", "plain"]

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
    '"': r"\symbol{34}",  # \textquotedbl is an error in LaTeX's default encoding
}
FORMULA_STARTS = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")  # the wide ones: Excel in Japanese


def csv_text(text: str) -> str:
    """A text cell that no spreadsheet runs as a formula: one that could start one gets a leading quote."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def latex(text: str) -> str:
    """Text with every character that LaTeX would act on replaced.

    A first `[` or `*` would be taken for an argument of the line's end before it: LaTeX then never ends.
    """
    return ("{}" if text.startswith(("[", "*")) else "") + "".join(LATEX.get(one, one) for one in plain(text))
