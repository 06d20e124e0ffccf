"""Budgets and selection: pure functions of scores and labels."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdc.errors import MethodError
from fastdc.methods.base import Keep


def select(
    scores: ArrayLike, labels: ArrayLike, ipc: int, keep: Keep = "easy", balanced: bool = True
) -> NDArray[np.int64]:
    """Indices to keep, most wanted first.

    Args:
        scores: float [N], high = hard, as `fastdc.scores` gives every score by default.
        labels: int [N], classes 0..C-1; C is the largest label + 1.
        ipc: images per class, at least 1.
        keep: `easy` keeps the lowest scores, `hard` the highest.
        balanced: True keeps `ipc` of every class, class by class; False keeps the best ipc * C of all.

    Returns:
        int64 [ipc * C]. Ties go to the lower index. Balanced: grouped by class, in class order.

    Raises:
        MethodError: shapes differ, a score is NaN or infinite, a label is not a whole number from 0 on, ipc < 1, keep
            is neither of the two, or a class (or the set) has fewer images than asked for.
    """
    ipc = _check_request(ipc, keep)
    values, classes = _checked(scores, labels)
    direction = values if keep == "easy" else -values
    order = np.lexsort((np.arange(values.size), direction))
    num_classes = int(classes.max()) + 1
    if not balanced:
        return _first(order, ipc * num_classes)
    grouped = order[np.argsort(classes[order], kind="stable")]
    counts = np.bincount(classes, minlength=num_classes)
    if counts.min() < ipc:
        short = int(np.argmin(counts))
        raise MethodError(f"select: class {short} has {counts[short]} images, ipc={ipc} asked for; lower the ipc")
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    return grouped[(starts[:, None] + np.arange(ipc)[None, :]).ravel()].astype(np.int64)


def select_among(
    scores: ArrayLike, labels: NDArray[np.int64], num_classes: int, ipc: int, keep: Keep, balanced: bool
) -> NDArray[np.int64]:
    """`select` for a set of `num_classes` classes, of which a global budget counts those without images too."""
    if balanced:
        return select(scores, labels, ipc, keep)
    return select(scores, np.zeros_like(labels), ipc * num_classes, keep)


def random_balanced(labels: NDArray[np.int64], num_classes: int, ipc: int, seed: int) -> NDArray[np.int64]:
    """`ipc` distinct indices of every class, uniformly at random.

    Each class draws from a stream of its own, so adding a class leaves the others' choice alone.

    Args:
        labels: int64 [N]; every class has at least `ipc` images.
        seed: already derived for this purpose.

    Returns:
        int64 [ipc * num_classes], grouped by class, in class order.
    """
    chosen = []
    for label in range(num_classes):
        members = np.flatnonzero(labels == label)
        generator = np.random.Generator(np.random.PCG64([seed, label]))
        chosen.append(generator.permutation(members)[:ipc])
    return np.concatenate(chosen).astype(np.int64)


def window_of_classes(
    scores: NDArray[np.float64] | None,
    labels: NDArray[np.int64],
    num_classes: int,
    needed: int,
    *,
    keep: Keep,
    offset: float,
    pool: float,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Choose `needed` images of every class from a window of its ranking.

    The window begins at `offset` percent of the class. One that would reach past the class's end is moved back, so that
    offset 100 is the other end of the ranking.

    Args:
        scores: float64 [N], high = hard; None ranks nothing, and draws from the whole class.
        labels: int64 [N], classes 0..num_classes-1, each with at least `needed` images.
        keep: the end from which offsets count.
        offset: in percent, 0..100.
        pool: width in percent, 0..100; at least `needed` images. 0 is exactly these.
        seed: already derived for this purpose; classes draw from streams of their own.

    Returns:
        Per class int64 [needed]: in the ranking's order, or without a ranking in the order drawn.

    Raises:
        MethodError: a class has fewer images, or a score is not finite.
    """
    if scores is None:
        return [_drawn(np.flatnonzero(labels == label), needed, seed, label) for label in range(num_classes)]
    chosen = []
    for label in range(num_classes):
        members = np.flatnonzero(labels == label)
        ranking = members[select(scores[members], np.zeros_like(members), members.size, keep)]
        width = max(needed, round(pool * members.size / 100))
        start = min(round(offset * members.size / 100), members.size - width)
        window = ranking[max(start, 0) : max(start, 0) + width]
        places = np.sort(_drawn(np.arange(window.size), needed, seed, label)) if width > needed else slice(None)
        chosen.append(window[places])
    return chosen


def _drawn(members: NDArray[np.int64], count: int, seed: int, label: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.PCG64([seed, label]))
    return generator.permutation(members)[:count].astype(np.int64)


def _check_request(ipc: int, keep: str) -> int:
    """`ipc` as Python's int: a NumPy integer of few bits would overflow when it is multiplied."""
    if keep not in ("easy", "hard"):
        raise MethodError(f"select: keep={keep!r}; expected 'easy' or 'hard'")
    if isinstance(ipc, bool) or not isinstance(ipc, (int, np.integer)):
        raise MethodError(f"select: ipc={ipc!r}; expected a whole number")
    if ipc < 1:
        raise MethodError(f"select: ipc={ipc}; expected at least 1")
    return int(ipc)


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    try:
        values, classes = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise MethodError(f"select: expected scores and labels as arrays of numbers; {error}") from error
    if values.ndim != 1 or values.shape != classes.shape or values.size == 0:
        raise MethodError(f"select: scores {values.shape} and labels {classes.shape} must be equal, 1-D, not empty")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise MethodError(f"select: score of sample {bad[0]} is {values[bad[0]]}; {bad.size} scores are not finite")
    if classes.dtype.kind not in "iu":
        raise MethodError(f"select: labels of type {classes.dtype}; expected integers")
    if classes.min() < 0:
        raise MethodError(f"select: label {classes.min()} of sample {int(classes.argmin())} is negative")
    return values, classes.astype(np.int64)


def _first(order: NDArray[np.intp], budget: int) -> NDArray[np.int64]:
    if budget > order.size:
        raise MethodError(f"select: {budget} images asked for, the set has {order.size}; lower the ipc")
    return order[:budget].astype(np.int64)
