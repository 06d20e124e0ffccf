"""Nearest neighbours, exactly and in blocks, and D2's message passing over their graph."""

import math

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.coverage import check_order_budget
from fastdc.kernels.jit import kernel
from fastdc.kernels.panels import Panels
from fastdc.kernels.similarity import BLOCK


def nearest_neighbours(panels: Panels, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `count` nearest other samples of each, by Euclidean distance. O(n * count) memory, O(n^2 D) work.

    All pairs are compared (no approximate search), by float32 products of the vectors minus their mean.

    Args:
        panels: n vectors.
        count: neighbours k, at least 0; fewer are returned where the group has fewer other samples.

    Returns:
        (int64 [n, k] neighbours, nearest first, ties to the lower index; float64 [n, k] distances).
    """
    count = min(count, panels.size - 1)
    panels = panels.centred()
    indices, squared = np.empty((panels.size, count), np.int64), np.empty((panels.size, count))
    squares = panels.self_products().astype(np.float64)
    for start in range(0, panels.size if count else 0, BLOCK):
        block = range(start, min(start + BLOCK, panels.size))
        rows = panels.products(panels.points(block))
        _nearest_of_block(rows, squares, start, indices[start : block.stop], squared[start : block.stop])
    return indices, np.sqrt(squared)


@kernel
def _nearest_of_block(
    products: NDArray[np.float32],
    squares: NDArray[np.float64],
    start: int,
    indices: NDArray[np.int64],
    squared: NDArray[np.float64],
) -> None:
    """Fill `indices` and `squared` [m, k] for the samples start..start+m-1 by insertion; products is [m, n]."""
    count = indices.shape[1]
    for i in range(products.shape[0]):
        filled = 0
        for j in range(products.shape[1]):
            if j == start + i:
                continue
            distance = max(squares[start + i] + squares[j] - 2.0 * products[i, j], 0.0)
            if filled == count and distance >= squared[i, count - 1]:
                continue
            place = filled if filled < count else count - 1
            while place > 0 and squared[i, place - 1] > distance:
                squared[i, place], indices[i, place] = squared[i, place - 1], indices[i, place - 1]
                place -= 1
            squared[i, place], indices[i, place] = distance, j
            filled = min(filled + 1, count)


def message_order(
    neighbours: NDArray[np.int64],
    distances: NDArray[np.float64],
    scores: NDArray[np.float64],
    gamma: float,
    budget: int,
) -> NDArray[np.int64]:
    """D2 pruning's choice on a graph (Maharana et al. 2024, section 3).

    Forward message: s_i += sum over neighbours k of exp(-d_ik) s_k (all at once, from the initial scores). Then
    repeatedly: pick i = argmax s among the samples left; reverse message: s_k -= exp(-gamma d_ik) s_i for its
    neighbours k.

    Args:
        neighbours, distances: [n, k], as `nearest_neighbours` gives them.
        scores: float64 [n], high = wanted, not negative.
        gamma: how fast the reverse message fades with distance, at least 0.
        budget: samples to choose, 1 to n.

    Returns:
        int64 [budget], in order of choice; ties go to the lower index.

    Raises:
        MethodError: `budget` is out of range.
    """
    check_order_budget("d2", scores.size, budget)
    return _pass_messages(neighbours, distances, scores, gamma, budget)


@kernel
def _pass_messages(
    neighbours: NDArray[np.int64],
    distances: NDArray[np.float64],
    scores: NDArray[np.float64],
    gamma: float,
    budget: int,
) -> NDArray[np.int64]:
    current = scores.copy()
    for i in range(scores.size):
        for place in range(neighbours.shape[1]):
            current[i] += math.exp(-distances[i, place]) * scores[neighbours[i, place]]
    taken = np.zeros(scores.size, np.bool_)
    order = np.empty(budget, np.int64)
    for step in range(budget):
        pick = -1
        for i in range(current.size):
            if not taken[i] and (pick < 0 or current[i] > current[pick]):
                pick = i
        order[step] = pick
        taken[pick] = True
        for place in range(neighbours.shape[1]):
            current[neighbours[pick, place]] -= math.exp(-gamma * distances[pick, place]) * current[pick]
    return order
