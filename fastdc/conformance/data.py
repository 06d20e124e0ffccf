"""Small generated data sets of the suites."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastdc.beton import Sample, write_samples

CLASSES = ("bark", "moss", "sand")
SIDE = 28
PER_CLASS = {"train": 40, "val": 10}


def write_set(folder: Path, split: str) -> Path:
    """Write a training or validation set of 3 classes, 28 x 28 px, and return its beton."""
    out = folder / f"{split}.beton"
    samples = _samples(split)
    write_samples(out, samples, classes=CLASSES, dataset="generated", split=split, source="fastdc.conformance", made={})
    return out


def _samples(split: str) -> Iterator[Sample]:
    """Generate noise around a pattern per class, which is quickly learned."""
    patterns = np.random.default_rng(7).integers(0, 256, (len(CLASSES), SIDE, SIDE, 3))
    noise = np.random.default_rng(list(PER_CLASS).index(split))
    for label, pattern in enumerate(patterns):
        for number in range(PER_CLASS[split]):
            pixels = pattern * 0.6 + noise.normal(50, 60, (SIDE, SIDE, 3))
            yield Sample(np.clip(pixels, 0, 255).astype(np.uint8), label, f"{CLASSES[label]}/{number}")
