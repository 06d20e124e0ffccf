"""The generated pages contain every method, setting, figure and package."""

import re
from pathlib import Path

import pytest
from fastdc_docs import architecture
from fastdc_docs.method_pages import described, method_pages, own_rows
from fastdc_docs.settings_table import meaning
from pydantic import Field

import fastdc
import fastdc.methods
from fastdc.methods import MethodConfig, all_methods, get_method

DOCS = Path(__file__).parents[2] / "docs"
PAGES = method_pages()
NAMES = list(all_methods())


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_a_page_with_text_formula_settings_and_reference(name: str) -> None:
    page, method = PAGES[f"methods/{name}.md"], get_method(name)
    text, _ = described(method)
    assert page.startswith(f"# {method.info.title}\n")
    assert len(re.findall(r"\.\s", text.partition("$$")[0])) >= 3, "expected three sentences before the formula"
    assert text.count("$$") == 2, "expected one formula between $$"
    assert all(f"| `{setting}` |" in page for setting in method.config_class.model_fields)
    assert all(f"| {figure} |" in page for figure in method.info.published.values())
    assert method.info.bibtex in page


def test_the_tables_of_methods_link_every_page() -> None:
    tables = PAGES["generated/methods.txt"]
    assert set(PAGES) == {"generated/methods.txt", *(f"methods/{name}.md" for name in NAMES)}
    assert all(f"[`{name}`](methods/{name}.md)" in tables for name in NAMES)


def test_settings_show_ranges_marks_and_the_numbers_of_each_size() -> None:
    assert "| `grid` | whole number ≥ 1, ≤ 8 | `2` \\* | tiles per side;" in PAGES["methods/pca.md"]
    assert "| `keep` | `easy`, `hard` | `hard` |" in PAGES["methods/dual.md"]
    sre2l, cda = (PAGES[f"methods/{name}.md"].replace("\u00a0", " ") for name in ("sre2l", "cda"))
    assert "| `0.25` (224 px)<br>`0.1` (64 px)<br>`0.25` (32 px) |" in sre2l
    assert "| `1.0` (224 px)<br>`1.0` (64 px)<br>`1.0` \\* (32 px) |" in cda


def test_the_cost_names_epochs_and_teachers() -> None:
    assert "* Observer: the log of the first 10 epochs." in PAGES["methods/el2n.md"]
    assert "* Observer: the log of every epoch." in PAGES["methods/aum.md"]
    assert "* Observer: none." in PAGES["methods/pact.md"]
    assert "each stored image takes 4,000 passes" in PAGES["methods/sre2l.md"]


def test_a_setting_without_a_meaning_is_refused() -> None:
    class Undocumented(MethodConfig):
        """Settings of nothing."""

        knob: int = Field(1)

    with pytest.raises(LookupError, match=r"Undocumented\.knob: found no line"):
        meaning(Undocumented, "knob")
    assert meaning(Undocumented, "fit").startswith("how a kept image becomes S x S")


def test_our_accuracy_is_the_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "method,settings,ipc,protocol,arch,image_size,precision,augment,seed,top1\n"
        "pca,grid=3,10,hard-small,resnet10,64,bf16,method,0,40\n"
        "pca,grid=3,10,hard-small,resnet10,64,bf16,method,1,42\n"
        "pca,,10,hard-small,resnet10,64,bf16,method,0,45.5\n"
    )
    found = own_rows(rows)["pca"]
    assert [(row[0], *row[-2:]) for row in found] == [("`pca`", "1", "45.50"), ("`pca[grid=3]`", "2", "41.00 ± 1.41")]


def test_every_package_has_a_row_and_the_drawing_follows_the_layers() -> None:
    package = Path(fastdc.__file__).parent
    packages = {path.parent.relative_to(package).as_posix() for path in package.rglob("__init__.py")} - {"."}
    rows = [line.split("|") for line in architecture.package_table()[2:]]
    assert {cells[1].strip(" `/") for cells in rows} == packages
    assert all(cells[2].strip().endswith(".") for cells in rows), "expected a docstring in every __init__.py"
    flow, layers = [name for name, _ in architecture.FLOW], architecture.layers()
    assert all(name in layers for name in flow)
    assert sum(f">{name}</text>" in architecture.drawing() for name in flow) == len(flow)
    order = [layers.index(name) for name in flow if name not in ("subsets", "train")]  # these two share a layer
    assert order == sorted(order)


def test_the_api_page_has_every_public_name() -> None:
    page = (DOCS / "api.md").read_text()
    public = {f"fastdc.{name}" for name in fastdc.__all__ if not name.startswith("_")}
    plugins = {f"fastdc.methods.{name}" for name in fastdc.methods.__all__ if name not in fastdc.__all__}
    assert {name for name in public | plugins if f":: {name}\n" not in page} == set()
