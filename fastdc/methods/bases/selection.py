"""Selection of a budget of images, as pure functions of scores and labels."""

from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdc.common.errors import MethodError
from fastdc.methods.bases.method import Compressed, MethodContext
from fastdc.methods.bases.method_config import Keep


def kept_images(
    context: MethodContext, chosen: NDArray[np.int64], scores: NDArray[np.float64] | None = None
) -> Compressed:
    """Return the chosen training images as a compressed set.

    Args:
        chosen: int64 [M], in order.
        scores: float64 [N], if the images were chosen by scores; `details` then holds the range of those chosen.
    """
    details = {} if scores is None else score_range(scores[chosen])
    return Compressed(context.labels[chosen], chosen[:, None], details=details)


def score_range(scores: NDArray[np.float64]) -> dict[str, float]:
    """Return the smallest and largest score of the chosen images, for the manifest."""
    return {"score_min": float(scores.min()), "score_max": float(scores.max())}


def select(
    scores: ArrayLike, labels: ArrayLike, ipc: int, keep: Keep = "easy", balanced: bool = True
) -> NDArray[np.int64]:
    """Return the indices of the images to keep, in order of preference.

    Args:
        scores: float [N], high = hard, as `fastdc.scores` returns every score by default.
        labels: int [N], classes 0..C-1; C is the largest label + 1.
        ipc: images per class, at least 1.
        keep: `easy` keeps the lowest scores, `hard` the highest.
        balanced: True keeps `ipc` of every class, class by class; False keeps the first ipc * C of all.

    Returns:
        int64 [ipc * C]. Ties go to the lower index. If balanced, the result is grouped by class, in class order.

    Raises:
        MethodError: an argument is invalid: shapes differ, a score is NaN or infinite, a label is negative or not
            an integer, ipc is not an integer or is below 1, or keep is unknown. Also if a class (or the set) has fewer
            images than requested.
    """
    ipc = _check_request(ipc, keep)
    values, classes = _checked(scores, labels)
    direction = values if keep == "easy" else -values
    order = np.lexsort((np.arange(values.size), direction))  # by score, then by index
    num_classes = int(classes.max()) + 1
    if not balanced:
        return _first(order, ipc * num_classes)
    grouped = order[np.argsort(classes[order], kind="stable")]
    counts = np.bincount(classes, minlength=num_classes)
    if counts.min() < ipc:
        short = int(np.argmin(counts))
        raise MethodError(
            f"select: class {short} has {counts[short]} images, but ipc={ipc} was requested; lower the ipc"
        )
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    return grouped[(starts[:, None] + np.arange(ipc)[None, :]).ravel()].astype(np.int64)


def select_among(
    scores: ArrayLike, labels: NDArray[np.int64], num_classes: int, ipc: int, keep: Keep, balanced: bool
) -> NDArray[np.int64]:
    """Return `select` for a set of `num_classes` classes; a global budget also counts classes without images."""
    if balanced:
        return select(scores, labels, ipc, keep)
    # `select` would take the number of classes from the labels, so one class gets the whole budget instead.
    return select(scores, np.zeros_like(labels), ipc * num_classes, keep)


def random_balanced(labels: NDArray[np.int64], num_classes: int, ipc: int, seed: int) -> NDArray[np.int64]:
    """Draw `ipc` distinct indices of every class, uniformly at random.

    Each class draws from its own stream, so adding a class does not change the choice in the others.

    Args:
        labels: int64 [N]; every class has at least `ipc` images.
        seed: already derived for this purpose.

    Returns:
        int64 [ipc * num_classes], grouped by class, in class order.
    """
    return np.concatenate(drawn_of_classes(labels, num_classes, ipc, seed))


def drawn_of_classes(labels: NDArray[np.int64], num_classes: int, count: int, seed: int) -> list[NDArray[np.int64]]:
    """Draw `count` distinct indices of every class, or all if a class has fewer; int64 [n] each, in the order drawn.

    Args:
        labels, num_classes, seed: see `random_balanced`.
    """
    return [_drawn(members, count, seed, label) for label, members in enumerate(members_of(labels, num_classes))]


def members_of(labels: NDArray[np.int64], num_classes: int) -> list[NDArray[np.int64]]:
    """Return the images of every class, ascending."""
    return [np.flatnonzero(labels == label) for label in range(num_classes)]


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

    The window begins at `offset` percent of the class. A window that would pass the end of the class is moved back, so
    offset 100 gives the other end of the ranking.

    Args:
        scores: float64 [N], high = hard; None draws from the whole class without a ranking.
        labels: int64 [N], classes 0..num_classes-1, each with at least `needed` images.
        keep: end of the ranking from which offsets count.
        offset: start of the window in percent of a class, 0..100.
        pool: width of the window in percent of a class, 0..100, but at least `needed` images; 0 takes exactly these.
        seed: already derived for this purpose; every class draws from its own stream.

    Returns:
        Per class int64 [needed], in the order of the ranking; without scores, in the order drawn.

    Raises:
        MethodError: a class is empty, or a score is not finite.
    """
    if scores is None:
        return drawn_of_classes(labels, num_classes, needed, seed)
    chosen = []
    for label, members in enumerate(members_of(labels, num_classes)):
        # As one class with the budget of all its members, `select` returns the whole ranking.
        ranking = members[select(scores[members], np.zeros_like(members), members.size, keep)]
        width = max(needed, round(pool * members.size / 100))
        start = min(round(offset * members.size / 100), members.size - width)
        window = ranking[max(start, 0) : max(start, 0) + width]
        # Sorting restores the order of the ranking, which may decide which images share a mosaic.
        places = np.sort(_drawn(np.arange(window.size), needed, seed, label)) if width > needed else slice(None)
        chosen.append(window[places])
    return chosen


def _drawn(members: NDArray[np.int64], count: int, seed: int, label: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.PCG64([seed, label]))
    return generator.permutation(members)[:count].astype(np.int64)


def _check_request(ipc: int, keep: str) -> int:
    """Check `ipc` and `keep`, and return `ipc` as a Python int, because a small NumPy integer would overflow."""
    if keep not in get_args(Keep):
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
        raise MethodError(f"select: {budget} images requested, but the set has {order.size}; lower the ipc")
    return order[:budget].astype(np.int64)
