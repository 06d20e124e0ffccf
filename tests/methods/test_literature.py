"""The papers and accuracies of the built-in methods, as `references.bib` and `published.toml` hold them."""

from pathlib import Path

import pytest

import fastdc.methods
from fastdc.methods import all_methods
from fastdc.methods.bases.literature import published, references

CITED = {info.name: info for info in (method.info for method in all_methods().values()) if info.bibtex}


def test_every_entry_is_found_and_cited() -> None:
    text = (Path(fastdc.methods.__file__).parent / "references.bib").read_text()
    assert "\n\n".join(references().values()) == text.strip()
    assert {info.bibtex for info in CITED.values()} == set(references().values())


@pytest.mark.parametrize("name", sorted(CITED))
def test_titles_and_years_are_those_of_the_entry(name: str) -> None:
    info = CITED[name]
    assert str(info.year) in info.bibtex
    assert info.bibtex.replace("{", "").replace("}", "").count(info.paper.removesuffix(" (fastdc, no paper)")) == 1


def test_published_accuracies_name_their_source_and_a_method() -> None:
    for name, table in published().items():
        accuracies = {key: value for key, value in table.items() if key != "source"}
        assert str(table["source"])
        assert CITED[name].published == accuracies
        assert all(len(key.split("/")) == 4 and 0 < float(value) < 100 for key, value in accuracies.items())
