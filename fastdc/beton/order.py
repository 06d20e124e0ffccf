"""The order of samples against that of torchvision's ImageFolder, by which index lists of other programs count."""

from collections.abc import Callable, Sequence
from typing import Literal

Order = Literal["imagefolder", "own"]
"""`imagefolder`: sample i is sample i of torchvision's ImageFolder over the same folder. `own`: it need not be."""
IMAGEFOLDER_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What ImageFolder reads: fewer kinds of file than fastdc does."""


def in_imagefolder(name: str) -> bool:
    """Return whether ImageFolder takes a file of this name for an image."""
    return name.lower().endswith(IMAGEFOLDER_SUFFIXES)


def below(root: str) -> Callable[[str], bool]:
    """Return a test for paths inside a folder of `root`; files directly in `root` are no part of a class."""
    start = len(root) + 1 if root else 0
    prefix = root + "/" if root else ""
    return lambda path: path.startswith(prefix) and "/" in path[start:]


def is_imagefolder_order(ids: Sequence[str]) -> bool:
    """Return whether ids ("class/image.jpg") stand as ImageFolder lists them: by class, then folder, then name."""
    previous = ("", "", "")
    for name in ids:
        folder, _, file = name.rpartition("/")
        place = (folder.partition("/")[0], folder, file)  # classes "a" and "a-b": "a/x" stands before "a-b"
        if place <= previous or not folder or not in_imagefolder(file):
            return False
        previous = place
    return True
