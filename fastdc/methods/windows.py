"""Windows of difficulty: which images of every class a ranking's offset and width name. Pure functions."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.base import Keep
from fastdc.methods.selection import select


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
