"""`fastdc write-beton` with the options of imported sets."""

from pathlib import Path

import pytest

from fastdc.beton import load_manifest
from fastdc.beton.sources.example_images import example_images
from fastdc.cli.main import run
from tests.cli.conftest import only_line


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write a folder with a table of unusual columns."""
    (tmp_path / "set").mkdir()
    lines = ["photo,kind,label\n"]
    for name, file, data in example_images():
        (tmp_path / "set" / f"{name}{file}").write_bytes(data)
        lines.append(f"{name}{file},{name},x\n")
    (tmp_path / "set" / "labels.csv").write_text("".join(lines))
    return tmp_path / "set"


def test_columns_and_hints(table: Path, tmp_path: Path) -> None:
    columns = ["--image-column", "photo", "--label-column", "kind"]
    hints = ["--hint", "tile_grid=2", "--hint", "tile_scale=0.5-1"]
    assert run(["write-beton", str(table), str(tmp_path / "x.beton"), "-q", *columns, *hints]) == 0
    made = load_manifest(tmp_path / "x.beton")
    assert (made.classes, made.made["columns"]) == (("bark", "moss", "sand"), ["photo", "kind"])
    assert made.hints == {"tile_grid": 2, "tile_scale": [0.5, 1.0]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "labels.csv: no image column"),
        (
            ["--image-column", "photo", "--label-column", "no"],
            "no column 'no', which --label-column names; it has photo,",
        ),
        (
            ["--image-column", "photo", "--hint", "grid=2"],
            "hint 'grid=2': expected NAME=VALUE, with NAME one of tile_grid",
        ),
    ],
)
def test_wrong_options_are_one_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(["write-beton", str(table), str(tmp_path / "x.beton"), "-q", *options]) == 2
    assert message in only_line(capsys.readouterr().err)
    assert not list(tmp_path.glob("x.*"))


def test_labels_from_one_without_names_are_noted(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(path.name for path in table.iterdir() if path.suffix != ".csv")
    for first in (0, 1):
        rows = "".join(f"{name},{first + number % 2}\n" for number, name in enumerate(files))
        (table / "labels.csv").write_text(f"photo,kind\n{rows}")
        columns = ["--image-column", "photo", "--label-column", "kind"]
        assert run(["write-beton", str(table), str(tmp_path / "x.beton"), "-q", "--force", *columns]) == 0
        assert ("no label is 0; if the labels count from 1" in capsys.readouterr().out) == (first == 1)
