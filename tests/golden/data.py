"""Write the photos and betons that golden values stand for: 120 training and 60 validation images of Fashion-MNIST."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

import fastdc

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("t-shirt", "trouser", "pullover")
PER_CLASS = {"train": 40, "val": 20}


def write_photos(folder: Path) -> Path:
    """Write the first images of the first three classes as `folder/SPLIT/CLASS/NNN.png` and return `folder`."""
    for split, count in PER_CLASS.items():
        stem = FASHION_MNIST / {"train": "train", "val": "t10k"}[split]
        with gzip.open(f"{stem}-images-idx3-ubyte.gz") as handle:
            pixels = np.frombuffer(handle.read(), np.uint8, offset=16).reshape(-1, 28, 28)
        with gzip.open(f"{stem}-labels-idx1-ubyte.gz") as handle:
            labels = np.frombuffer(handle.read(), np.uint8, offset=8)
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number, index in enumerate(np.flatnonzero(labels == label)[:count]):
                Image.fromarray(pixels[index]).save(folder / split / name / f"{number:03d}.png")
    return folder


def write_betons(photos: Path, folder: Path) -> Path:
    """Write `photos` as raw betons `train.beton` and `val.beton` into `folder` and return it."""
    for split in PER_CLASS:
        fastdc.write_beton(photos, folder / f"{split}.beton", split=split, encoding="raw")
    return folder
