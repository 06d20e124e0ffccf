"""Compare the order of samples with that of torchvision's ImageFolder, to which other programs' index lists refer."""

from collections.abc import Callable, Sequence
from typing import Literal

Order = Literal["imagefolder", "own"]
"""Order of samples. `imagefolder`: sample i is sample i of torchvision's ImageFolder over the same folder. `own`: it
need not be.
"""
IMAGEFOLDER_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Suffixes that ImageFolder reads: fewer than fastdc does."""


def in_imagefolder(name: str) -> bool:
    """Return whether ImageFolder takes a file of this name for an image."""
    return name.lower().endswith(IMAGEFOLDER_SUFFIXES)


def below(root: str) -> Callable[[str], bool]:
    """Return a test for paths inside a folder of `root`; files directly in `root` fail it, as they have no class."""
    start = len(root) + 1 if root else 0
    prefix = root + "/" if root else ""
    return lambda path: path.startswith(prefix) and "/" in path[start:]


def is_imagefolder_order(ids: Sequence[str]) -> bool:
    """Return whether ids ("class/image.jpg") follow ImageFolder's order: by class, then folder, then file name."""
    previous = ("", "", "")
    for name in ids:
        folder, _, file = name.rpartition("/")
        # The class comes first: "a/x" belongs before the class "a-b", although "-" sorts before "/".
        place = (folder.partition("/")[0], folder, file)
        if place <= previous or not folder or not in_imagefolder(file):
            return False
        previous = place
    return True
