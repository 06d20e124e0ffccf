"""The command in a manifest writes the same data again."""

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastdc.beton import describe_beton
from fastdc.cli import main as cli
from fastdc.sweep.bundle.write_commands import write_command


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write two classes, with an unreadable image, into a split of a folder with a space in its name."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        folder = tmp_path / "my photos" / "train" / name
        folder.mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
    (tmp_path / "my photos" / "train" / "b" / "x.jpg").write_bytes(b"")
    (tmp_path / "my photos" / "train" / "empty").mkdir()
    return Path("my photos")


@pytest.mark.parametrize("options", [[], ["--resolution", "20"], ["--encoding", "jpg", "--quality", "70"]])
def test_the_command_writes_the_same_data(photos: Path, options: list[str]) -> None:
    common = ["--split", "train", "--on-error", "skip", "--allow-missing-classes"]
    assert cli.run(["write-beton", str(photos), "one.beton", *common, *options]) == 0
    first = describe_beton(Path("one.beton"))
    program, *arguments = shlex.split(write_command(first, "two.beton", "one.json"))
    assert program == "fastdc"
    assert cli.run(arguments) == 0
    assert describe_beton(Path("two.beton")).content_hash == first.content_hash


@pytest.mark.parametrize("names", ["empty\nb\na\n", "bee\nay\nnone\n"], ids=["in another order", "by position"])
def test_given_classes(photos: Path, names: str) -> None:
    Path("names.txt").write_text(names)
    if "bee" in names:
        for number, name in enumerate(("a", "b", "empty")):
            (photos / "train" / name).rename(photos / "train" / str(number))
    common = ["--split", "train", "--on-error", "skip", "--allow-missing-classes", "--classes", "names.txt"]
    assert cli.run(["write-beton", str(photos), "one.beton", *common]) == 0
    check_again(Path("one.beton"))


def test_columns_standardisation_and_hints(photos: Path) -> None:
    table = photos / "train" / "a" / "metadata.csv"
    table.write_text("which,image,kind\n0.jpg,x,cat\n1.jpg,y,dog\n")
    columns = ["--image-column", "which", "--label-column", "kind", "--hint", "tile_grid=2"]
    assert cli.run(["write-beton", str(table.parent), "one.beton", *columns]) == 0
    # A table's manifest names only the folder, so the command is run beside it.
    os.chdir(photos / "train")
    check_again(Path("../../one.beton"))
    values = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    np.savez("x.npz", images=values, labels=[0, 1, 0, 1])
    assert cli.run(["write-beton", "x.npz", "two.beton", "--mean", "0.5,0.4,0.3", "--std", "0.2"]) == 0
    check_again(Path("two.beton"))


def test_data_of_the_hub_are_named_by_their_address(tiny: Path) -> None:
    made = {"tool": "fastdc write-beton", "repository": "me/cats", "revision": "0" * 40, "class_names": "ClassLabel"}
    manifest = describe_beton(tiny / "train.beton").model_copy(update={"made": made, "source": "0" * 40})
    command = write_command(manifest, "train.beton", "train.json")
    assert command.startswith(f"fastdc write-beton hf://me/cats@{'0' * 40} train.beton")


def check_again(beton: Path) -> None:
    """Run the command in the manifest, and compare."""
    first = describe_beton(beton)
    program, *arguments = shlex.split(write_command(first, "again.beton", str(beton.with_suffix(".json"))))
    assert program == "fastdc"
    assert cli.run(arguments) == 0
    again = describe_beton(Path("again.beton"))
    assert (again.content_hash, again.hints) == (first.content_hash, first.hints)
    for suffix in ("beton", "json"):
        Path(f"again.{suffix}").unlink()


def test_data_of_recipes_and_other_programs_are_described(tiny: Path) -> None:
    manifest = describe_beton(tiny / "train.beton")
    assert write_command(manifest, "train.beton", "train.json") == (
        "# train.beton: written by a program that its manifest does not name from made by a test"
    )
    made = {"tool": "fastdc write-beton", "recipe": "writers/x.py", "recipe_version": 1, "size": "160", "order": None}
    recipe = manifest.model_copy(update={"made": made, "source": "x\n.tar"})
    assert write_command(recipe, "train.beton", "train.json") == (
        "# train.beton: written by writers/x.py from x?.tar (recipe_version 1, size 160)"
    )
