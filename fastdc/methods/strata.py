"""Stratified choice along a score, as CCS makes it (Zheng et al. 2023): pure functions."""

import numpy as np
from numpy.typing import NDArray

from fastdc.errors import MethodError


def strata_of(values: NDArray[np.float64], strata: int) -> NDArray[np.int64]:
    """The stratum 0..strata-1 of each value: equal widths over [min, max], each without its upper edge but the last.

    The authors' code ends the last one at 1.0001 * max, which leaves the maximum out where it is negative. Equal values
    are all in stratum 0.

    Args:
        values: [n], finite, n >= 1.
    """
    low, high = values.min(), values.max()
    if high == low:
        return np.zeros(values.size, np.int64)
    position = (values / 2 - low / 2) / (high / 2 - low / 2) * strata  # halves: the range may exceed the largest float
    found: NDArray[np.int64] = np.minimum(position.astype(np.int64), strata - 1)
    return found


def strata_budgets(sizes: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """How many each stratum gives: the smallest first, each min(its size, budget left // strata left).

    Strata of equal size are served in their order.

    Args:
        sizes: int64 [S].

    Returns:
        int64 [S], sum = `budget`.

    Raises:
        MethodError: the strata hold fewer than `budget`.
    """
    if budget > sizes.sum():
        raise MethodError(f"strata: {budget} asked for, they hold {sizes.sum()}")
    budgets = np.zeros_like(sizes)
    left = budget
    for served, stratum in enumerate(np.argsort(sizes, kind="stable")):
        budgets[stratum] = min(sizes[stratum], left // (sizes.size - served))
        left -= int(budgets[stratum])
    return budgets


def choose_in_strata(
    values: NDArray[np.float64], draws: NDArray[np.float64], budget: int, strata: int
) -> NDArray[np.int64]:
    """Positions of `budget` values, spread over strata, uniformly at random within each.

    Args:
        values: [n], finite. draws: [n], independent uniform numbers; the smallest of a stratum are taken.

    Returns:
        int64 [budget], stratum by stratum.
    """
    stratum = strata_of(values, strata)
    sizes = np.bincount(stratum, minlength=strata)
    budgets = strata_budgets(sizes, budget)
    order = np.lexsort((draws, stratum))
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(values.size) - np.repeat(starts, sizes)
    return order[rank < np.repeat(budgets, sizes)].astype(np.int64)
