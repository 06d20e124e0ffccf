"""Settle the classes of a source whose labels are numbers: the given names, the source's own, or the numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.sources.class_folders import BY_POSITION
from fastdc.beton.texts import one_spelling
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message

_MIN_CLASSES = 1000
"""Labels without names may range up to here, even if there are fewer images."""


def settle_classes(
    labels: NDArray[np.int64], own: Sequence[str] | None, given: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], NDArray[np.int32], str]:
    """Return the names of the classes, the class of each label, and how the names were found.

    Args:
        labels: int64 [N]; those below 0 are missing.
        own: names of classes 0, 1, ... in the source; None if it has none.
        given: names of classes 0, 1, ... from `--classes`; None if that is not used.
        where: the source, for messages.

    Returns:
        names, int32 [N] with -1 for labels that are none of the classes, and "source", "numbers", "given" or
        `BY_POSITION`.

    Raises:
        SourceError: own and given names contradict each other, names repeat, or a label is too high to be a class.
    """
    own = None if own is None else tuple(map(one_spelling, own))
    if own is not None and len(set(own)) < len(own):
        raise SourceError(f"{where}: names two of its {len(own)} classes alike; name them with --classes")
    if given is None:
        names = _number(labels, where) if own is None else own
        return names, _in_range(labels, len(names)), "numbers" if own is None else "source"
    given = tuple(given)
    if own is None or own == given:
        return given, _in_range(labels, len(given)), "given"
    if set(own) == set(given):
        place = np.array([*(given.index(name) for name in own), -1], np.int64)
        return given, place[_in_range(labels, len(own))].astype(np.int32), "given"
    if len(own) != len(given) or set(own) & set(given):
        raise SourceError(
            f"{where}: names {len(own)} classes ({own[0]!r}, ...), but --classes names {len(given)} ({given[0]!r}, "
            "...); name all as it does, or all in other words, in their order"
        )
    log_message(f"note: {where}: --classes shares no name with it; {own[0]!r} becomes {given[0]!r}, and so on")
    return given, _in_range(labels, len(given)), BY_POSITION


def settle_names(
    labels: NDArray[np.int64], names: Sequence[str], own: Sequence[str] | None, given: Sequence[str] | None
) -> tuple[tuple[str, ...], NDArray[np.int32], str]:
    """Return the same as `settle_classes` for labels that are names.

    Args:
        labels: int64 [N], place in `names`; those below 0 are missing.
        names: all names that occur.
        own, given: see `settle_classes`. Without both, the classes are `names`, sorted.
    """
    classes = tuple(map(one_spelling, given or own or sorted(names)))
    place = {name: label for label, name in enumerate(classes)}
    table = np.array([*(place.get(name, -1) for name in names), -1], np.int64)
    return classes, table[_in_range(labels, len(names))].astype(np.int32), "given" if given else "source"


def _number(labels: NDArray[np.int64], where: str) -> tuple[str, ...]:
    highest, most = int(labels.max(initial=-1)), max(_MIN_CLASSES, len(labels))
    if highest >= most:
        raise SourceError(
            f"{where}: label {highest} of {len(labels):,} images, expected less than {most:,}; "
            "name the classes with --classes if it is right"
        )
    width = len(str(max(0, highest)))
    return tuple(f"{label:0{width}d}" for label in range(highest + 1))


def _in_range(labels: NDArray[np.int64], classes: int) -> NDArray[np.int32]:
    return np.where((labels < 0) | (labels >= classes), -1, labels).astype(np.int32)
