"""Greedy maximisation of facility location and graph cut."""

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastdc.errors import MethodError
from fastdc.kernels.coverage import check_order_budget
from fastdc.kernels.jit import kernel
from fastdc.kernels.panels import Panels
from fastdc.kernels.similarity import BLOCK, Similarity


def facility_location_order(
    similarity: Similarity, budget: int, demand: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Greedy order for f(S) = sum over i of w_i max over j in S of s_ij, with f of nothing = 0.

    Lazy greedy (Minoux 1978): gains only fall as S grows, so an old gain is an upper bound, and only the top of a heap
    is computed anew. Without weights, gains are sums in float64 of similarities that are rounded so that the sums are
    exact: a tie is a tie. With weights the sums are rounded, always in one order: they fall with S all the same, so in
    both cases the result equals plain greedy's.

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

    # (-gain, sample, size of S when the gain was computed): the smallest entry has the largest gain, lowest index first
    heap = [(-gain(row), j, 0) for j, row in enumerate(_rows(similarity))]
    heapq.heapify(heap)
    order = np.empty(budget, np.int64)
    for step in range(budget):
        while heap[0][2] != step:
            j = heap[0][1]
            heapq.heapreplace(heap, (-gain(similarity.rows(range(j, j + 1))[0]), j, step))
        pick = heapq.heappop(heap)[1]
        order[step] = pick
        np.maximum(covered, similarity.rows(range(pick, pick + 1))[0], out=covered)
    return order


def _ratios(demand: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide weights by their maximum, so that equal ones are 1 exactly, as if there were none."""
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
    """Sum over i of max(0, row[i] - covered[i]), in float64."""
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
    """Greedy order for graph cut: the gain of j is balance * sum over all i of s_ij - 2 sum over picked i of s_ij.

    s_ij = 1/2 + cos/2, as in DeepCore. A pick lowers every gain by one row of similarities, so all gains stay exact at
    O(n D) per step and nothing is left for a lazy heap to save; the sums over all i are one product with the sum of the
    unit vectors. Memory is O(n) beside the features. Gains in float64.

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
        gains -= 1.0 + unit.dots(unit.point(pick))
        order[step], gains[pick] = pick, -np.inf
    return order
