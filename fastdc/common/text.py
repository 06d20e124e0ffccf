"""Sanitise text from file names, classes and plug-ins for terminals and JSON; sort text with numbers in it."""

import re
from typing import Any

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def format_bytes(count: int) -> str:
    """Return a number of bytes as text in decimal units: 161.4 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} B"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: `1 run`, `2 runs`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def plain(text: str) -> str:
    """Return `text` with every control character, terminal escape and direction mark replaced by `?`."""
    return CONTROL.sub("?", text)


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(name: str) -> str:
    """Return `name` with bytes that are not UTF-8 escaped, so that JSON can hold it."""
    if name.isascii():
        return name  # the common case, without a copy
    return name.encode("utf-8", "backslashreplace").decode()


def natural(text: str) -> tuple[list[Any], str]:
    """Return a sort key that reads digits as numbers: `class2` before `class10`; the text itself breaks ties."""
    parts: list[Any] = re.split(r"([0-9]+)", text)  # text at even places, digits at odd ones
    parts[1::2] = map(int, parts[1::2])
    return parts, text
