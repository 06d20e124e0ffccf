"""Exports of compressed sets cite their method."""

import re
from pathlib import Path

import pytest

from fastdc.beton import load_manifest
from fastdc.beton.export.dataset_card import own_entry
from fastdc.methods.bases.literature import references
from fastdc.subsets.export_beton import export_beton
from tests.beton.export.conftest import write_set

ROOT = Path(__file__).parents[2]


def card(tmp_path: Path, made: dict[str, object]) -> str:
    write_set(tmp_path / "x.beton", made=made)
    out = tmp_path / str(made.get("method", "none"))
    assert export_beton(tmp_path / "x.beton", out, "hf").manifest == load_manifest(tmp_path / "x.beton")
    return (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("el2n", ["paul2021data", "xiao2025rethinking"]),
        ("pca", ["xiao2025rethinking"]),
        ("full", ["xiao2025rethinking"]),
        ("plugin-that-is-not-here", ["xiao2025rethinking"]),
    ],
)
def test_the_method_and_the_benchmark_are_cited(tmp_path: Path, method: str, keys: list[str]) -> None:
    text = card(tmp_path, {"tool": "fastdc", "method": method})
    assert re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE) == [*keys, "fastdc"]
    assert all(references()[key] in text for key in keys)


def test_a_set_without_a_method(tmp_path: Path) -> None:
    assert re.findall(r"^@\w+\{(\w+),", card(tmp_path, {"tool": "x"}), re.MULTILINE) == ["xiao2025rethinking", "fastdc"]


def test_fastdc_is_cited_by_its_citation_file() -> None:
    file = (ROOT / "CITATION.cff").read_text()
    entry = own_entry()
    for field, pattern in (
        ("title", r'^title: "(.*)"$'),
        ("version", r"^version: (.*)$"),
        ("author", r'^  - name: "(.*)"$'),
    ):
        found = re.search(pattern, file, re.MULTILINE)
        assert found is not None
        assert f"{field}={{{found[1]}}}" in entry.replace("{{", "{").replace("}}", "}")
