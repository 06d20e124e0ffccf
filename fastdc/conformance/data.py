"""Small generated data sets of the suites."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastdc.beton import Sample, write_samples

CLASSES = ("bark", "moss", "sand")
SIDE, BLOCK = 28, 7
PER_CLASS = {"train": 40, "val": 10}


def write_set(folder: Path, split: str) -> Path:
    """Write a training or validation set of 3 classes, 28 x 28 px, and return its beton."""
    out = folder / f"{split}.beton"
    samples = _samples(split)
    write_samples(out, samples, classes=CLASSES, dataset="generated", split=split, source="fastdc.conformance", made={})
    return out


def _samples(split: str) -> Iterator[Sample]:
    """Generate noise around a pattern of coloured blocks per class, which is quickly learned."""
    blocks = np.random.default_rng(7).integers(0, 256, (len(CLASSES), SIDE // BLOCK, SIDE // BLOCK, 3))
    patterns = blocks.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)
    noise = np.random.default_rng(list(PER_CLASS).index(split))
    for label, pattern in enumerate(patterns):
        for number in range(PER_CLASS[split]):
            pixels = pattern * 0.8 + noise.normal(25, 40, (SIDE, SIDE, 3))
            yield Sample(np.clip(pixels, 0, 255).astype(np.uint8), label, f"{CLASSES[label]}/{number}")
