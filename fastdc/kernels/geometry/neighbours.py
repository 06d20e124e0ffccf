"""Exact nearest neighbours computed in blocks, the graph that they span, and D2's message passing on that graph."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.geometry.coverage import check_order_budget
from fastdc.kernels.geometry.products import Panels
from fastdc.kernels.geometry.similarity import BLOCK


def nearest_neighbours(panels: Panels, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the `count` nearest other samples of each sample, by Euclidean distance.

    All pairs are compared (no approximate search), through float32 products of the vectors minus their mean.
    O(n * count) memory, O(n^2 D) work.

    Args:
        panels: n vectors.
        count: neighbours k, at least 0; fewer are returned if the group has fewer other samples.

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
    """Fill `indices` and `squared` [m, k] for the samples start..start+m-1 by insertion sort; products is [m, n]."""
    count = indices.shape[1]
    for i in range(products.shape[0]):
        filled = 0
        for j in range(products.shape[1]):
            if j == start + i:
                continue
            # Rounding can push the squared distance of near-duplicates below 0.
            distance = max(squares[start + i] + squares[j] - 2.0 * products[i, j], 0.0)
            if filled == count and distance >= squared[i, count - 1]:
                continue
            place = filled if filled < count else count - 1
            # Strictly greater: an equal distance stays in front, so ties go to the lower index.
            while place > 0 and squared[i, place - 1] > distance:
                squared[i, place], indices[i, place] = squared[i, place - 1], indices[i, place - 1]
                place -= 1
            squared[i, place], indices[i, place] = distance, j
            filled = min(filled + 1, count)


@dataclass(frozen=True)
class NeighbourGraph:
    """Edges between n samples; those of sample i are entries starts[i]..starts[i + 1] - 1.

    Attributes:
        starts: int64 [n + 1].
        ends: int64 [E], the sample at the other end of each edge; ascending for each sample.
        distances: float64 [E], length of each edge.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    distances: NDArray[np.float64]


def neighbour_graph(
    neighbours: NDArray[np.int64], distances: NDArray[np.float64], directed: bool = False
) -> NeighbourGraph:
    """Join every sample to its neighbours; by default in both directions, even if only one is near the other.

    Args:
        neighbours, distances: [n, k], from `nearest_neighbours`.
        directed: edges lead only from each sample to its own neighbours.

    Returns:
        n * k edges if directed, else n * k to 2 n * k. O(n * k) memory, O(n * k log(n * k)) work.
    """
    size, count = neighbours.shape
    origins = np.repeat(np.arange(size), count)
    # One number per edge, so that np.unique removes duplicates and sorts by origin, then by end.
    keys, gaps = origins * size + neighbours.ravel(), distances.ravel()
    if not directed:
        keys, gaps = np.concatenate([keys, neighbours.ravel() * size + origins]), np.concatenate([gaps, gaps])
    keys, first = np.unique(keys, return_index=True)  # products are bitwise symmetric: both gaps are equal
    starts = np.searchsorted(keys, np.arange(size + 1) * size)
    return NeighbourGraph(starts, keys % size, gaps[first])


def message_order(
    graph: NeighbourGraph, scores: NDArray[np.float64], gamma: float, budget: int, floor: float = -math.inf
) -> NDArray[np.int64]:
    """Choose samples by D2 pruning's messages on a graph (Maharana et al. 2024, section 3).

    Forward message: s_i += sum over neighbours k of exp(-d_ik) s_k (all at once, from the initial scores). Then repeat:
    pick i = argmax s among the remaining samples; reverse message: s_k -= exp(-gamma d_ik) s_i for its neighbours k.

    Args:
        graph: edges and distances d of n samples.
        scores: float64 [n], s; high scores are chosen first.
        gamma: how fast the reverse message fades with distance, at least 0.
        budget: samples to choose, 1 to n.
        floor: lowest score that a forward message carries.

    Returns:
        int64 [budget], in order of choice; ties go to the lower index.

    Raises:
        MethodError: `budget` is out of range.
    """
    check_order_budget("d2", scores.size, budget)
    return _pass_messages(graph.starts, graph.ends, graph.distances, scores, np.maximum(scores, floor), gamma, budget)


@kernel
def _pass_messages(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    distances: NDArray[np.float64],
    scores: NDArray[np.float64],
    sent: NDArray[np.float64],
    gamma: float,
    budget: int,
) -> NDArray[np.int64]:
    """Run `message_order`; `sent` [n] is the score that each sample's forward messages carry."""
    current = scores.copy()
    for i in range(scores.size):
        for edge in range(starts[i], starts[i + 1]):
            current[i] += math.exp(-distances[edge]) * sent[ends[edge]]
    taken = np.zeros(scores.size, np.bool_)
    order = np.empty(budget, np.int64)
    for step in range(budget):
        pick = -1
        for i in range(current.size):
            if not taken[i] and (pick < 0 or current[i] > current[pick]):
                pick = i
        order[step] = pick
        taken[pick] = True
        for edge in range(starts[pick], starts[pick + 1]):
            current[ends[edge]] -= math.exp(-gamma * distances[edge]) * current[pick]
    return order
