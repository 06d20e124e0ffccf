"""Find the images and the labels among named arrays, by the names that released sets use."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.image_kinds import NO_IMAGES
from fastdc.beton.sources.splits import SPLIT_NAMES, choose_split
from fastdc.common.errors import SourceError

IMAGES = ("images", "image", "imgs", "x", "data", "image_syn")
LABELS = ("labels", "label", "y", "targets", "target", "label_syn")
CLASSES = ("classes", "class_names")


def find_pair(names: Iterable[str], split: str | None, source: Path) -> tuple[str, str]:
    """Return the names of the images and of the labels of one split.

    A split is a word of a name: `x_train` and `y_train`, `test_images` and `test_labels`.

    Raises:
        SourceError: there are no images, no labels or several of them; `split` is missing, unknown or not applicable.
    """
    names = sorted(names)
    images, labels = _by_split(names, IMAGES, source), _by_split(names, LABELS, source)
    known = sorted(name for name in images if name is not None)
    if split is not None and not known:
        raise SourceError(f"{source}: its arrays name no splits, but {split!r} was requested; omit --split")
    chosen = None if split is None and (None in images or not known) else choose_split(known, split, source)
    if chosen not in images or chosen not in labels:
        lacking, wanted = ("labels", LABELS) if chosen in images else ("images", IMAGES)
        held = ", ".join(names[:8]) or "no arrays"
        advice = f"; {NO_IMAGES}" if wanted is IMAGES else ""
        raise SourceError(
            f"{source}: has no array of {lacking}, such as {wanted[0]} or {wanted[3]}; it has {held}{advice}"
        )
    return images[chosen], labels[chosen]


def _by_split(names: Iterable[str], wanted: tuple[str, ...], source: Path) -> dict[str | None, str]:
    """Return the array of each split whose name without the split is one of `wanted`."""
    found: dict[str | None, str] = {}
    for name in names:
        words = name.lower().split("_")
        split = next((word for word in words if word in SPLIT_NAMES), None)
        if "_".join(word for word in words if word != split) in wanted:
            other = found.setdefault(split, name)
            if other != name:
                raise SourceError(f"{source}: the arrays {other} and {name} mean the same; keep one of them")
    return found


def read_labels(labels: NDArray[Any], images: int, where: str) -> NDArray[np.int64]:
    """Return int64 [N], the class of each image, from integers [N] or [N, 1], or exact one-hot rows [N, C].

    Args:
        labels: the array, of any shape and dtype.
        images: number N of images.
        where: the array's file and name, for messages.

    Raises:
        SourceError: there are more or fewer labels than images, or they are soft.
    """
    if labels.ndim == 0 or len(labels) != images:
        found = "one number" if labels.ndim == 0 else f"{len(labels)} labels"
        raise SourceError(f"{where}: {found} of {images} images, expected one label per image")
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.dtype.kind not in "biuf" or not _is_one_hot(labels):
            raise SourceError(
                f"{where}: has soft labels of {labels.shape[1]} classes, which a beton cannot hold; save the class of "
                "each image (labels.argmax(1))"
            )
        return np.asarray(labels.argmax(1), np.int64)
    if labels.dtype.kind not in "biu" or labels.size != images:
        kind = f"{labels.dtype} {list(labels.shape)}"
        raise SourceError(f"{where}: is {kind}, expected integers [N], one class number per image")
    highest = int(labels.max(initial=0))
    if highest > np.iinfo(np.int32).max:
        raise SourceError(f"{where}: label {highest}, expected the numbers of classes, 0, 1, ...")
    return labels.reshape(-1).astype(np.int64)


def _is_one_hot(labels: NDArray[Any]) -> bool:
    ones = labels == 1
    return bool((ones | (labels == 0)).all() and (ones.sum(1) == 1).all())
