"""Escape text from file names, classes and plug-ins for the format that shows it."""

from fastdc.common.text import plain

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
FORMULA_STARTS = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")  # Japanese Excel also accepts the full-width forms


def csv_text(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: a text that could start one gets a leading quote."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def latex(text: str) -> str:
    r"""Return text with every special character of LaTeX replaced.

    A leading `[` or `*` would be read as an argument of the `\\` before it, and LaTeX would never finish. An empty
    group before it prevents that.
    """
    return ("{}" if text.startswith(("[", "*")) else "") + "".join(LATEX.get(one, one) for one in plain(text))
