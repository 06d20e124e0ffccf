"""A set with all that an export must handle: JPEGs and raw pixels, mixed labels, odd class names, hints."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastdc.beton import Sample, write_samples
from tests.beton.conftest import encode, smooth

CLASSES = ("a/b", "cat", "Cat", "..", "con", "plain")
SIDE = (16, 20)


def samples(raw_every: int = 3, count: int = 18):
    """Yield `count` images with unsorted labels; every third is raw, two are equal, one JPEG has an Exif rotation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in range(count):
        pixels = smooth(*SIDE, seed=index % 16)
        if raw_every and index % raw_every == 0:
            image = np.repeat(pixels[:, :, :1], 3, axis=2) if index % 2 else pixels
        else:
            image = encode(pixels, quality=90, **({"exif": exif} if index == 1 else {}))
        yield Sample(image, (index * 5) % len(CLASSES), f"{CLASSES[index % 6]}/{index}.jpg+x")


def write_set(path: Path, classes=CLASSES, images=None, **changes):
    origin = {
        "dataset": "odd",
        "split": None,
        "source": "memory",
        "made": {"tool": "fastdc", "method": "pca", "ipc": 3},
    }
    hints = {"tile_grid": 2, "tile_scale": [0.25, 1.0]}
    return write_samples(
        path, samples() if images is None else images, classes=classes, hints=hints, **origin | changes
    )


@pytest.fixture
def odd_set(tmp_path: Path) -> Path:
    write_set(tmp_path / "odd.beton")
    return tmp_path / "odd.beton"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
