"""Facility location and graph cut: lazy equals plain greedy, and both follow the definitions in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.kernels.geometry.products import pack
from fastdc.kernels.geometry.similarity import (
    ClippedCosineSimilarity,
    CosineSimilarity,
    GaussianSimilarity,
    GradientProducts,
    GradientSimilarity,
    SimilarityMatrix,
    kept_when_small,
)
from fastdc.kernels.geometry.submodular import coverage_gain, facility_location_order, graph_cut_order, weighted_gain


def features(size: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((size, width)).astype(np.float32)


def slow_cosine(rows: np.ndarray) -> np.ndarray:
    exact = rows.astype(np.float64)
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return 0.5 + 0.5 * unit @ unit.T


def slow_gaussian(rows: np.ndarray) -> np.ndarray:
    squared = ((rows[:, None, :].astype(np.float64) - rows[None]) ** 2).sum(axis=2)
    return np.exp(-squared / squared.mean())


def slow_gradients(residuals: np.ndarray, rows: np.ndarray) -> np.ndarray:
    with_one = np.concatenate([rows, np.ones((len(rows), 1))], axis=1).astype(np.float64)
    return np.einsum("nc,nd->ncd", residuals.astype(np.float64), with_one).reshape(len(rows), -1)


def plain_greedy(similarity: np.ndarray, budget: int, *weights: np.ndarray) -> list[int]:
    covered, chosen = np.zeros(len(similarity), np.float32), []
    gain = weighted_gain if weights else coverage_gain
    for _ in range(budget):
        gains = [-1.0 if j in chosen else gain(row, covered, *weights) for j, row in enumerate(similarity)]
        chosen.append(int(np.argmax(gains)))
        covered = np.maximum(covered, similarity[chosen[-1]])
    return chosen


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 45), st.integers(1, 6), st.integers(0, 999), st.booleans(), st.data())
def test_lazy_greedy_equals_plain_greedy(size: int, width: int, seed: int, ties: bool, data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, size))
    rows = np.round(features(size, width, seed)) if ties else features(size, width, seed)
    similarity = CosineSimilarity(pack(rows))
    expected = plain_greedy(similarity.rows(range(size)), budget)
    assert facility_location_order(similarity, budget).tolist() == expected
    assert facility_location_order(kept_when_small(similarity), budget).tolist() == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 45), st.integers(1, 6), st.integers(0, 999), st.booleans(), st.data())
def test_lazy_greedy_equals_plain_greedy_with_weights(
    size: int, width: int, seed: int, ties: bool, data: st.DataObject
) -> None:
    budget = data.draw(st.integers(1, size))
    rows = np.round(features(size, width, seed)) if ties else features(size, width, seed)
    demand = np.random.default_rng(seed).random(size) * 0.3
    if ties:
        demand = np.round(demand, 1)  # some are 0, many are equal
    similarity, weights = ClippedCosineSimilarity(pack(rows)), demand / (demand.max() or 1.0)
    expected = plain_greedy(similarity.rows(range(size)), budget, weights)
    assert facility_location_order(similarity, budget, demand).tolist() == expected
    assert facility_location_order(kept_when_small(similarity), budget, demand).tolist() == expected


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 30), st.integers(0, 999))
def test_every_weighted_pick_has_the_largest_gain_in_float64(size: int, seed: int) -> None:
    rows, demand = features(size, 5, seed), np.random.default_rng(seed).random(size)
    exact, covered = np.maximum(2 * slow_cosine(rows) - 1, 0), np.zeros(size)
    chosen = facility_location_order(ClippedCosineSimilarity(pack(rows)), size, demand).tolist()
    for step, pick in enumerate(chosen):
        gains = {j: demand @ np.maximum(exact[j] - covered, 0) for j in range(size) if j not in chosen[:step]}
        assert gains[pick] >= max(gains.values()) - 1e-5
        covered = np.maximum(covered, exact[pick])


@pytest.mark.parametrize("weight", [1.0, 0.1, 1e-30])
def test_equal_weights_choose_like_no_weights(weight: float) -> None:
    """Ties among 60 rows of 12 kinds are decided equally."""
    rows = np.repeat(features(12, 4, 5), 5, axis=0)
    for similarity in (CosineSimilarity(pack(rows)), ClippedCosineSimilarity(pack(rows))):
        plain = facility_location_order(similarity, 40).tolist()
        assert facility_location_order(similarity, 40, np.full(60, weight)).tolist() == plain


def test_zero_weights_choose_by_index_and_bad_ones_are_refused() -> None:
    similarity = CosineSimilarity(pack(features(5, 3, 0)))
    assert facility_location_order(similarity, 3, np.zeros(5)).tolist() == [0, 1, 2]
    for bad in (-0.1, np.nan, np.inf):
        with pytest.raises(MethodError, match=r"weight 3 is .*; expected a number from 0 on"):
            facility_location_order(similarity, 3, np.array([1.0, 0.0, 2.0, bad, 1.0]))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 30), st.integers(0, 999))
def test_every_pick_has_the_largest_gain_in_float64(size: int, seed: int) -> None:
    rows = features(size, 5, seed)
    exact = slow_cosine(rows)
    covered = np.zeros(size)
    chosen = facility_location_order(CosineSimilarity(pack(rows)), size).tolist()
    for step, pick in enumerate(chosen):
        left = [j for j in range(size) if j not in chosen[:step]]
        gains = {j: np.maximum(exact[j] - covered, 0).sum() for j in left}
        assert gains[pick] >= max(gains.values()) - 1e-5
        covered = np.maximum(covered, exact[pick])


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 30), st.sampled_from([0.0, 0.3, 1.0, 5.0]), st.integers(0, 999))
def test_graph_cut_follows_its_definition(size: int, balance: float, seed: int) -> None:
    rows = features(size, 5, seed)
    exact = slow_cosine(rows)
    chosen = graph_cut_order(pack(rows), balance, size).tolist()
    assert sorted(chosen) == list(range(size))
    for step, pick in enumerate(chosen):
        gains = balance * exact.sum(axis=0) - 2 * exact[chosen[:step]].sum(axis=0)
        assert gains[pick] >= max(gains[j] for j in chosen[step:]) - 1e-5


def test_similarities_equal_float64() -> None:
    rows, residuals = features(50, 7, 1), features(50, 4, 2)
    np.testing.assert_allclose(CosineSimilarity(pack(rows)).rows(range(50)), slow_cosine(rows), atol=1e-6)
    clipped = np.maximum(2 * slow_cosine(rows) - 1, 0)
    np.testing.assert_allclose(ClippedCosineSimilarity(pack(rows)).rows(range(50)), clipped, atol=1e-6)
    np.testing.assert_allclose(GaussianSimilarity(pack(rows)).rows(range(50)), slow_gaussian(rows), atol=1e-6)
    gradients = slow_gradients(residuals, rows)
    products = GradientProducts(pack(residuals), pack(rows))
    np.testing.assert_allclose(products.rows(range(50)), gradients @ gradients.T, atol=2e-4)
    distances = np.linalg.norm(gradients[:, None] - gradients[None], axis=2)
    constant = 2 * np.linalg.norm(gradients, axis=1).max()
    found = GradientSimilarity(products).rows(range(50))
    np.testing.assert_allclose(found, constant - distances, atol=2e-3)
    assert found.min() >= 0


def test_equal_samples_are_equally_similar_to_the_bit_and_chosen_by_index() -> None:
    rows = np.repeat(features(5, 9, 3), 8, axis=0)
    for similarity in (made(pack(rows)) for made in (CosineSimilarity, ClippedCosineSimilarity, GaussianSimilarity)):
        whole = SimilarityMatrix(similarity).rows(range(40))
        assert (whole == whole[::8].repeat(8, axis=0)).all()
        assert all(pick % 8 == 0 for pick in facility_location_order(similarity, 5))
    gradient = GradientSimilarity(GradientProducts(pack(rows), pack(rows)))
    assert len({float(gradient.rows(range(40))[i, j]) for i in range(8) for j in range(8)}) == 1


def test_exact_sums_of_similarities_ignore_their_order() -> None:
    """Multiples of one power of two: two samples that cover only each other then have equal gains, to the bit."""
    rows, residuals = features(60, 12, 1), features(60, 3, 2)
    gradients = GradientSimilarity(GradientProducts(pack(residuals), pack(rows)))
    top = float(gradients.rows(range(60)).max())
    bounded = [kind(pack(rows)) for kind in (CosineSimilarity, ClippedCosineSimilarity, GaussianSimilarity)]
    for similarity, largest in [*((each, 1.0) for each in bounded), (gradients, top)]:
        steps = similarity.rows(range(60)).astype(np.float64) * 2.0 ** (24 - np.ceil(np.log2(largest)))
        assert (steps == np.rint(steps)).all()
        assert steps.max() <= 2**24


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(0, 999), st.booleans())
def test_permuting_samples_permutes_the_choice_up_to_exact_ties(size: int, seed: int, gradients: bool) -> None:
    """Two samples that cover only each other tie at any distance; only there the index decides."""
    rows, residuals = features(size, 6, seed), features(size, 3, seed + 1)
    moved = np.random.default_rng(seed).permutation(size)

    def made(order: np.ndarray) -> SimilarityMatrix:
        parts = pack(residuals[order]), pack(rows[order])
        return SimilarityMatrix(
            GradientSimilarity(GradientProducts(*parts)) if gradients else CosineSimilarity(parts[1])
        )

    similarity = made(np.arange(size))
    first = facility_location_order(similarity, size)
    second = moved[facility_location_order(made(moved), size)]
    covered = np.zeros(size, np.float32)
    for mine, other in zip(first.tolist(), second.tolist(), strict=True):
        row, its = (similarity.rows(range(j, j + 1))[0] for j in (mine, other))
        if mine != other:
            assert coverage_gain(row, covered) == coverage_gain(its, covered)
            break
        covered = np.maximum(covered, row)


def test_zero_vectors_have_cosine_zero() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], np.float32)
    assert CosineSimilarity(pack(rows)).rows(range(3)).tolist() == [[0.5, 0.5, 0.5], [0.5, 1, 0], [0.5, 0, 1]]
    assert GaussianSimilarity(pack(rows * 0)).rows(range(1)).tolist() == [[1, 1, 1]]
    assert sorted(graph_cut_order(pack(rows), 1.0, 3).tolist()) == [0, 1, 2]


def test_refuses_a_budget_out_of_range() -> None:
    panels = pack(features(3, 2, 0))
    for budget in (0, 4):
        with pytest.raises(MethodError, match="the group has 3"):
            facility_location_order(CosineSimilarity(panels), budget)
        with pytest.raises(MethodError, match="the group has 3"):
            graph_cut_order(panels, 1.0, budget)
