"""Shared data: a small real training and validation set, cut from Fashion-MNIST."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fastdc.beton import Sample, write_samples

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("t-shirt", "trouser", "pullover")


class Betons(NamedTuple):
    """A training and a validation beton of the same classes."""

    train: Path
    val: Path


def fashion_images(split: str, per_class: int) -> Iterator[Sample]:
    """Return the first `per_class` images of the first three classes, RGB, in file order."""
    stem = "train" if split == "train" else "t10k"
    with gzip.open(FASHION_MNIST / f"{stem}-images-idx3-ubyte.gz") as handle:
        pixels = np.frombuffer(handle.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION_MNIST / f"{stem}-labels-idx1-ubyte.gz") as handle:
        labels = np.frombuffer(handle.read(), np.uint8, offset=8)
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(len(CLASSES))]))
    for index in chosen:
        yield Sample(np.repeat(pixels[index, :, :, None], 3, axis=2), int(labels[index]), f"{split}/{index}")


def write_fashion(folder: Path, split: str, per_class: int) -> Path:
    """Write a beton of a few real images."""
    out = folder / f"{split}.beton"
    write_samples(
        out, fashion_images(split, per_class), classes=CLASSES, dataset="fashion3", split=split, source="test", made={}
    )
    return out


@pytest.fixture(scope="session")
def betons(tmp_path_factory: pytest.TempPathFactory) -> Betons:
    """Write 120 training and 60 validation images of 3 classes, 28 x 28, raw."""
    folder = tmp_path_factory.mktemp("fashion3")
    return Betons(write_fashion(folder, "train", 40), write_fashion(folder, "val", 20))
