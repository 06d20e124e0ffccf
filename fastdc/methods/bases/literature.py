"""The papers of the built-in methods (`references.bib`) and the accuracies that are published (`published.toml`)."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from fastdc.methods.bases.method_info import Family, MethodInfo, Need

ENTRY = re.compile(r"^@\w+\{(?P<key>[^,]+),\n.*?^\}", re.MULTILINE | re.DOTALL)
"""One entry of `references.bib`: it begins with @ and ends with a brace, both at the start of a line."""
TITLE, YEAR = re.compile(r"^  title=\{(.*)\},$", re.MULTILINE), re.compile(r"^  year=\{(\d+)\}", re.MULTILINE)


def cited(
    name: str,
    title: str,
    family: Family,
    citation: str,
    *,
    paper: str | None = None,
    needs: tuple[Need, ...] = (),
    stochastic: bool = False,
) -> MethodInfo:
    """Return the metadata of a built-in method, completed from `references.bib` and `published.toml`.

    Args:
        name, title, family, needs, stochastic: see `MethodInfo`.
        citation: key of the paper's entry in `references.bib`, which gives title, year and BibTeX.
        paper: title to show instead of the entry's.
    """
    entry = references()[citation]
    return MethodInfo(
        name=name,
        title=title,
        family=family,
        paper=_found(TITLE, entry).translate({ord("{"): None, ord("}"): None}) if paper is None else paper,
        year=int(_found(YEAR, entry)),
        bibtex=entry,
        needs=needs,
        stochastic=stochastic,
        published={key: float(value) for key, value in published().get(name, {}).items() if key != "source"},
    )


@cache
def references() -> dict[str, str]:
    """Return the entries of `references.bib` by their keys."""
    return {found["key"]: found[0] for found in ENTRY.finditer(_text("references.bib"))}


@cache
def published() -> dict[str, dict[str, Any]]:
    """Return the tables of `published.toml` by method: accuracies in percent, and `source`, who measured them."""
    return tomllib.loads(_text("published.toml"))


def _text(name: str) -> str:
    return files("fastdc.methods").joinpath(name).read_text(encoding="utf-8")


def _found(pattern: re.Pattern[str], entry: str) -> str:
    match = pattern.search(entry)
    assert match is not None, f"references.bib: no {pattern.pattern} in {entry}"
    return match[1]
