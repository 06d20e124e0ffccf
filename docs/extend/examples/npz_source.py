"""Write a beton from a NumPy archive with the arrays `images`, `labels` and `classes`.

python npz_source.py digits.npz digits.beton
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastdc.beton import Manifest, Sample, write_samples


def samples(archive: Path) -> Iterator[Sample]:
    """Yield the images of an archive, RGB uint8 [H, W, 3], in its order."""
    with np.load(archive) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)  # grey
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield Sample(image, int(label), f"{archive.stem}/{number}")


def write(archive: Path, out: Path, split: str | None = None) -> Manifest:
    """Write all images of an archive as one beton, with its manifest."""
    with np.load(archive) as arrays:
        classes = [str(name) for name in arrays["classes"]]
    made = {"tool": "npz_source.py", "encoding": "raw"}
    return write_samples(
        out, samples(archive), classes=classes, dataset=archive.stem, split=split, source=archive.name, made=made
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
