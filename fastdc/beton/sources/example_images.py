"""Generate the images from which each kind of source writes its example."""

import numpy as np

from fastdc.beton.encode_images import encode_jpeg

CLASSES = ("bark", "moss", "sand")
PER_CLASS = 4
SIDES = (40, 32)


def example_images() -> list[tuple[str, str, bytes]]:
    """Return 4 images of each of 3 classes, sorted: the class, a file name and the bytes of a JPEG of 32 x 40 px."""
    pixels = np.random.default_rng(0)
    return [
        (name, f"{number}.jpg", encode_jpeg(pixels.integers(0, 256, (*SIDES, 3), dtype=np.uint8), 90, "420"))
        for name in CLASSES
        for number in range(PER_CLASS)
    ]
