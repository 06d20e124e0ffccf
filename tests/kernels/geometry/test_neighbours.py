"""The neighbour graph and D2's messages against plain code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.kernels.geometry.neighbours import NeighbourGraph, message_order, nearest_neighbours, neighbour_graph
from fastdc.kernels.geometry.products import pack


def slow_neighbours(rows: np.ndarray, count: int) -> list[list[int]]:
    exact = rows.astype(np.float64)
    distances = np.linalg.norm(exact[:, None] - exact[None], axis=2)
    return [
        sorted((j for j in range(len(rows)) if j != i), key=lambda j: (row[j], j))[:count]
        for i, row in enumerate(distances)
    ]


def slow_messages(
    rows: np.ndarray, scores: np.ndarray, count: int, gamma: float, budget: int, directed: bool = False
) -> list[int]:
    exact = rows.astype(np.float64)
    nearest = [set(found) for found in slow_neighbours(rows, count)]
    size = len(rows)
    graph = [
        [k for k in range(size) if k in nearest[i] or (not directed and i in nearest[k] and k != i)]
        for i in range(size)
    ]
    sent = scores if directed else np.maximum(scores, 1e-7)

    def gap(i: int, k: int) -> float:
        return float(np.linalg.norm(exact[i] - exact[k]))

    current = [scores[i] + sum(np.exp(-gap(i, k)) * sent[k] for k in graph[i]) for i in range(size)]
    chosen: list[int] = []
    for _ in range(budget):
        pick = max((i for i in range(size) if i not in chosen), key=lambda i: (current[i], -i))
        chosen.append(pick)
        for k in graph[pick]:
            current[k] -= np.exp(-gamma * gap(pick, k)) * current[pick]
    return chosen


def graph_of(rows: np.ndarray, count: int, directed: bool = False) -> NeighbourGraph:
    return neighbour_graph(*nearest_neighbours(pack(rows), count), directed=directed)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(0, 6), st.integers(1, 3), st.integers(0, 999))
def test_neighbours_are_exact(size: int, count: int, workers: int, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((size, 5)).astype(np.float32)
    indices, distances = nearest_neighbours(pack(rows, workers), count)
    assert indices.tolist() == slow_neighbours(rows, count)
    for i in range(size):
        np.testing.assert_allclose(distances[i], np.linalg.norm(rows[i] - rows[indices[i]], axis=1), atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
    st.integers(0, 999),
    st.data(),
)
def test_messages_follow_the_definition(
    size: int, count: int, gamma: float, directed: bool, seed: int, data: st.DataObject
) -> None:
    budget = data.draw(st.integers(1, size))
    generator = np.random.default_rng(seed)
    rows, scores = generator.standard_normal((size, 4)).astype(np.float32), generator.uniform(-0.3, 1, size)
    floor = {} if directed else {"floor": 1e-7}
    found = message_order(graph_of(rows, count, directed), scores, gamma, budget, **floor)
    assert found.tolist() == slow_messages(rows, scores, count, gamma, budget, directed)


def test_messages_pass_in_both_directions() -> None:
    """On a line, 1 is the nearest of 0 and of 2, so it collects from both and damps both."""
    rows, scores = np.array([[0.0], [0.1], [0.3]], np.float32), np.array([0.5, 1.0, 0.9])
    assert message_order(graph_of(rows, 1), scores, 0.1, 3).tolist() == [1, 2, 0]
    assert message_order(graph_of(rows, 1, directed=True), scores, 0.1, 3).tolist() == [2, 0, 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 6), st.integers(0, 999))
def test_the_graph_is_symmetric_and_small(size: int, count: int, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((size, 3)).astype(np.float32)
    graph = graph_of(rows, count)
    edges = dict(
        zip(
            zip(np.repeat(np.arange(size), np.diff(graph.starts)), graph.ends, strict=True),
            graph.distances,
            strict=True,
        )
    )
    assert len(edges) == graph.ends.size <= 2 * size * count
    assert all(edges[k, i] == gap for (i, k), gap in edges.items())
    assert {(i, k) for i, found in enumerate(slow_neighbours(rows, count)) for k in found} <= set(edges)


def test_ties_go_to_the_lower_index() -> None:
    equal = np.ones((6, 3), np.float32)
    indices, distances = nearest_neighbours(pack(equal), 2)
    assert indices.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]
    assert (distances == 0).all()
    assert message_order(neighbour_graph(indices, distances), np.zeros(6), 0.1, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_without_neighbours_the_ranking_stays() -> None:
    graph = graph_of(np.eye(3, dtype=np.float32), 0)
    assert message_order(graph, np.array([1.0, 3.0, 2.0]), 0.1, 3).tolist() == [1, 2, 0]
    with pytest.raises(MethodError, match="the group has 3"):
        message_order(graph, np.zeros(3), 0.1, 4)


@pytest.mark.parametrize("size", [31, 32, 70])
def test_neighbours_are_exact_among_close_vectors(size: int) -> None:
    """A trained class has a long common vector and small differences, which float32 products would lose."""
    generator = np.random.default_rng(size)
    rows = (generator.standard_normal(64) + 0.002 * generator.standard_normal((size, 64))).astype(np.float32)
    indices, distances = nearest_neighbours(pack(rows), 5)
    assert indices.tolist() == slow_neighbours(rows, 5)
    gaps = np.linalg.norm(rows[:, None].astype(np.float64) - rows[indices], axis=2)
    np.testing.assert_allclose(distances, gaps, rtol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_at_equal_distances_go_to_the_lower_index(seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 3, (40, 6)).astype(np.float32)  # ties everywhere
    squares = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)  # exact
    expected = [[j for j in np.argsort(row, kind="stable") if j != i][:5] for i, row in enumerate(squares)]
    assert nearest_neighbours(pack(rows), 5)[0].tolist() == expected
