"""Greedy maximisation of facility location and graph cut."""

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError
from fastdc.kernels.core.jit import kernel
from fastdc.kernels.geometry.coverage import check_order_budget
from fastdc.kernels.geometry.products import Panels
from fastdc.kernels.geometry.similarity import BLOCK, Similarity


def facility_location_order(
    similarity: Similarity, budget: int, demand: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Return the greedy order for f(S) = sum over i of w_i max over j in S of s_ij, with f of the empty set = 0.

    Lazy greedy (Minoux 1978): gains only fall as S grows, so an old gain is an upper bound. Only the top of a heap is
    recomputed. Without weights, gains are float64 sums of similarities rounded so that the sums are exact: ties are
    exact. With weights the sums are rounded, but always in one order, so they also fall as S grows. Both cases
    therefore give the same result as plain greedy.

    Args:
        similarity: non-negative similarities of n samples.
        budget: samples to choose, 1 to n.
        demand: the weights w, float64 [n], not negative; None for 1 each. Only their ratios count.

    Returns:
        int64 [budget], in order of choice; ties go to the lower index.

    Raises:
        MethodError: `budget` is out of range, or a weight is negative or not finite.
    """
    check_order_budget("facility location", similarity.size, budget)
    weights = None if demand is None else _ratios(demand)
    covered = np.zeros(similarity.size, np.float32)

    def gain(row: NDArray[np.float32]) -> float:
        return coverage_gain(row, covered) if weights is None else weighted_gain(row, covered, weights)

    # (-gain, sample, size of S when the gain was computed): heapq pops the largest gain, ties by the lowest index.
    heap = [(-gain(row), j, 0) for j, row in enumerate(_rows(similarity))]
    heapq.heapify(heap)
    order = np.empty(budget, np.int64)
    for step in range(budget):
        # Recompute the top until it is up to date; then it beats every other upper bound.
        while heap[0][2] != step:
            j = heap[0][1]
            heapq.heapreplace(heap, (-gain(similarity.rows(range(j, j + 1))[0]), j, step))
        pick = heapq.heappop(heap)[1]
        order[step] = pick
        np.maximum(covered, similarity.rows(range(pick, pick + 1))[0], out=covered)
    return order


def _ratios(demand: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide weights by their maximum, so that equal weights become exactly 1, as without weights.

    Raises:
        MethodError: a weight is negative or not finite.
    """
    bad = np.flatnonzero(~(np.isfinite(demand) & (demand >= 0)))
    if bad.size:
        raise MethodError(f"facility location: weight {bad[0]} is {demand[bad[0]]}; expected a number from 0 on")
    largest = demand.max()
    return demand / largest if largest > 0 else demand


def _rows(similarity: Similarity) -> Iterator[NDArray[np.float32]]:
    for start in range(0, similarity.size, BLOCK):
        yield from similarity.rows(range(start, min(start + BLOCK, similarity.size)))


@kernel
def coverage_gain(row: NDArray[np.float32], covered: NDArray[np.float32]) -> float:
    """Return the sum over i of max(0, row[i] - covered[i]), in float64."""
    total = 0.0
    for i in range(row.size):
        gain = np.float64(row[i]) - np.float64(covered[i])
        if gain > 0.0:
            total += gain
    return total


@kernel
def weighted_gain(row: NDArray[np.float32], covered: NDArray[np.float32], weights: NDArray[np.float64]) -> float:
    """Return the sum over i of weights[i] * max(0, row[i] - covered[i]), in float64, in the order of i."""
    total = 0.0
    for i in range(row.size):
        gain = np.float64(row[i]) - np.float64(covered[i])
        if gain > 0.0:
            total += weights[i] * gain
    return total


def graph_cut_order(panels: Panels, balance: float, budget: int) -> NDArray[np.int64]:
    """Return the greedy order for graph cut.

    The gain of j is balance * sum over all i of s_ij - 2 sum over picked i of s_ij.
    s_ij = 1/2 + cos/2, as in DeepCore. A pick lowers every gain by one row of similarities. All gains thus stay exact
    at O(n D) per step, and a lazy heap would save nothing. The sums over all i are one product with the sum of the unit
    vectors. Memory is O(n) beside the features. Gains in float64.

    Args:
        panels: features of n samples.
        balance: weight of the first sum (DeepCore's lambda).
        budget: samples to choose, 1 to n.

    Returns:
        int64 [budget], in order of choice; ties go to the lower index.

    Raises:
        MethodError: `budget` is out of range.
    """
    check_order_budget("graph cut", panels.size, budget)
    unit = panels.normalised()
    gains = balance * 0.5 * (unit.size + unit.dots(unit.total()))
    order = np.empty(budget, np.int64)
    for step in range(budget):
        pick = int(gains.argmax())
        # 2 s_ij = 1 + cos, so this subtracts twice the row of similarities.
        gains -= 1.0 + unit.dots(unit.point(pick))
        order[step], gains[pick] = pick, -np.inf
    return order
