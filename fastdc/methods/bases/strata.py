"""Stratified choice along a score, as in CCS (Zheng et al. 2023), as pure functions."""

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError


def strata_of(values: NDArray[np.float64], strata: int) -> NDArray[np.int64]:
    """Return the stratum 0..strata-1 of each value, for strata of equal width over [min, max].

    Only the last stratum includes its upper edge. The authors' code ends it at 1.0001 * max, which leaves a negative
    maximum out. If all values are equal, they are in stratum 0.

    Args:
        values: [n], finite, n >= 1.
        strata: number of strata.
    """
    low, high = values.min(), values.max()
    if high == low:
        return np.zeros(values.size, np.int64)
    position = (values / 2 - low / 2) / (high / 2 - low / 2) * strata  # halved, because high - low may overflow
    # The maximum has position `strata`, and belongs to the last stratum.
    found: NDArray[np.int64] = np.minimum(position.astype(np.int64), strata - 1)
    return found


def strata_budgets(sizes: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Return how many samples each stratum gives.

    Strata are served from the smallest, those of equal size in their order. Each gives min(its size, budget left //
    strata left).

    Args:
        sizes: int64 [S], samples in each stratum.
        budget: samples to give in total.

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
    """Return the positions of `budget` values, spread over strata and random within each.

    Args:
        values: [n], finite.
        draws: [n], independent uniform random numbers; the smallest in a stratum are taken.
        budget: number of values to choose.
        strata: number of strata.

    Returns:
        int64 [budget], stratum by stratum.
    """
    stratum = strata_of(values, strata)
    sizes = np.bincount(stratum, minlength=strata)
    budgets = strata_budgets(sizes, budget)
    order = np.lexsort((draws, stratum))  # by stratum, then by draw: lexsort's last key is the primary one
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(values.size) - np.repeat(starts, sizes)
    return order[rank < np.repeat(budgets, sizes)].astype(np.int64)
