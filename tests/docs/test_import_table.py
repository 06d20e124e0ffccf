"""The table "Import" of the guide to data sets: a source of each row is written and read."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fastdc.beton import load_manifest
from fastdc.beton.images import decode_image
from fastdc.beton.sources.example_images import CLASSES, example_images
from fastdc.beton.sources.open_source import source_of, sources
from fastdc.cli.main import run

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "data-sets.md"


def table_rows() -> list[tuple[str, str]]:
    """Return kind and layout of each row of the table."""
    section = GUIDE.read_text().split("\n## Import\n")[1].split("\n## ")[0]
    cells = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [(row[0].strip(" `"), row[1].strip()) for row in cells]


def numbered(folder: Path) -> list[str]:
    for name, file, data in example_images():
        path = folder / f"new{CLASSES.index(name):03d}" / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    (folder.parent / "names.txt").write_text("\n".join(CLASSES))
    return [str(folder), "--classes", str(folder.parent / "names.txt")]


def stock(folder: Path) -> list[str]:
    (folder.parent / "names.txt").write_text("\n".join(CLASSES))
    return [str(sources().get("beton").example(folder)), "--classes", str(folder.parent / "names.txt")]


def any_table(folder: Path) -> list[str]:
    (folder / "images").mkdir()
    for name, file, data in example_images():
        (folder / "images" / f"{name}{file}").write_bytes(data)
    lines = "".join(f"images/{name}{file}\t{name}\n" for name, file, _ in example_images())
    (folder / "list.tsv").write_text(lines)
    return [str(folder / "list.tsv")]


def pixels_and_labels(folder: Path) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Return images as standardised floats [N, 3, H, W], their labels, and the options for them."""
    (folder.parent / "names.txt").write_text("\n".join(CLASSES))
    images = np.stack([decode_image(data) for _, _, data in example_images()])
    labels = [CLASSES.index(name) for name, _, _ in example_images()]
    values = torch.tensor((images / 255 - 0.5) / 0.25, dtype=torch.float32).permute(0, 3, 1, 2)
    options = ["--classes", str(folder.parent / "names.txt"), "--mean", "0.5", "--std", "0.25,0.25,0.25"]
    return values, torch.tensor(labels), options


def dictionary(folder: Path) -> list[str]:
    images, labels, options = pixels_and_labels(folder)
    torch.save({"images": images, "labels": labels}, folder / "set.pt")
    return [str(folder / "set.pt"), *options]


def experiments(folder: Path) -> list[str]:
    images, labels, options = pixels_and_labels(folder)
    torch.save({"data": [[images, labels], [images, labels]]}, folder / "res.pt")
    return [str(folder / "res.pt"), *options, "--split", "0"]


def best(folder: Path) -> list[str]:
    images, labels, options = pixels_and_labels(folder)
    torch.save(images, folder / "images_best.pt")
    torch.save(labels, folder / "labels_best.pt")
    return [str(folder), *options]


def pattern(folder: Path) -> list[str]:
    return [str(sources().get("webdataset").example(folder) / "shard-{0000..0001}.tar")]


OTHER_LAYOUTS: dict[str, Callable[[Path], list[str]]] = {
    "numbered": numbered,
    "a `.beton`": stock,
    "any `.csv`": any_table,
    "`.pt` or": dictionary,
    "`.pt` with": experiments,
    "a folder with `images_best": best,
    "a pattern": pattern,
}
"""Writers of the layouts that are no kind's own example, by the beginning of the row's second cell."""


def test_each_kind_has_a_row() -> None:
    kinds = {name for name, place in sources().places.items() if ".kinds." in place or "/kinds/" in place}
    assert {kind for kind, _ in table_rows()} == kinds


@pytest.mark.parametrize(("kind", "layout"), table_rows())
def test_each_row_is_read(kind: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind in ("parquet", "saved-set"):
        pytest.importorskip("pyarrow")
    if kind == "hub":
        pytest.importorskip("huggingface_hub")
    (tmp_path / "set").mkdir()
    own = next((writer for start, writer in OTHER_LAYOUTS.items() if layout.startswith(start)), None)
    arguments = own(tmp_path / "set") if own else [os.fspath(sources().get(kind).example(tmp_path / "set"))]
    assert source_of(Path(arguments[0])).name == kind
    assert run(["write-beton", arguments[0], str(tmp_path / "x.beton"), *arguments[1:], "-q"]) == 0
    made = load_manifest(tmp_path / "x.beton")
    assert (made.classes, made.counts) == (CLASSES, (4, 4, 4))
