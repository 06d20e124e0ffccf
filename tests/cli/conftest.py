"""Provide the tests of the command line with a small folder of photos, and its betons."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastdc.cli.main import run

FASTDC = [sys.executable, "-m", "fastdc"]
NETWORK = ["--arch", "convnet1_w4", "--protocol", "hard-small", "--set", "epochs=2", "--threads", "1"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder split/class/img of small JPEGs, 8 and 4 of each of 3 classes."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name in ("bark", "moss", "sand"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(pixels.integers(0, 256, (32, 40, 3), dtype=np.uint8))
                image.save(folder / split / name / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def work(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write train.beton and val.beton into a folder with the command."""
    folder = tmp_path_factory.mktemp("work")
    for split in ("train", "val"):
        assert run(["write-beton", str(photos), str(folder / f"{split}.beton"), "--split", split, "-q"]) == 0
    return folder


def only_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]
