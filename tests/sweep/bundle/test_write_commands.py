"""The command that a manifest records writes the same data again."""

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
    """Two classes, one image unreadable, in a split of a folder with a space in its name below the current one."""
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
def test_the_same_data_come_back(photos: Path, options: list[str]) -> None:
    common = ["--split", "train", "--on-error", "skip", "--allow-missing-classes"]
    assert cli.run(["write-beton", str(photos), "one.beton", *common, *options]) == 0
    first = describe_beton(Path("one.beton"))
    program, *arguments = shlex.split(write_command(first, "two.beton"))
    assert program == "fastdc"
    assert cli.run(arguments) == 0
    assert describe_beton(Path("two.beton")).content_hash == first.content_hash


def test_data_of_recipes_and_other_programs_are_described(tiny: Path) -> None:
    manifest = describe_beton(tiny / "train.beton")
    assert write_command(manifest, "train.beton") == (
        "# train.beton: written by a program that its manifest does not name from made by a test"
    )
    made = {"tool": "fastdc write-beton", "recipe": "writers/x.py", "recipe_version": 1, "size": "160", "order": None}
    recipe = manifest.model_copy(update={"made": made, "source": "x\n.tar"})
    assert write_command(recipe, "train.beton") == (
        "# train.beton: written by writers/x.py from x?.tar (recipe_version 1, size 160)"
    )
