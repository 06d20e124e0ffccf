"""Matching pursuit against explicit gradients and an exhaustive solver."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.kernels.geometry.gradient_matching import matching_order, nonnegative_solve
from fastdc.kernels.geometry.products import pack
from fastdc.kernels.geometry.similarity import GradientProducts
from tests.kernels.geometry.test_submodular import features, slow_gradients


def slow_solve(system: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the best unconstrained solution over all subsets of weights that is non-negative."""
    best, best_value = np.zeros(len(target)), 0.0
    for count in range(1, len(target) + 1):
        for subset in map(list, combinations(range(len(target)), count)):
            part = np.linalg.solve(system[np.ix_(subset, subset)], target[subset])
            value = part @ system[np.ix_(subset, subset)] @ part / 2 - target[subset] @ part
            if (part >= 0).all() and value < best_value:
                best, best_value = np.zeros(len(target)), value
                best[subset] = part
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 9999))
def test_nonnegative_weights_are_the_best(size: int, rank: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    factor = generator.standard_normal((size, rank))
    system, target = factor @ factor.T + 0.1 * np.eye(size), generator.standard_normal(size)
    weights = np.zeros(size)
    for known in range(1, size + 1):  # like the pursuit: one more each time, from the last solution
        nonnegative_solve(system[:known, :known].copy(), target[:known], weights[:known])
    np.testing.assert_allclose(weights, slow_solve(system, target), atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.sampled_from([0.01, 1.0]), st.integers(0, 999), st.data())
def test_follows_explicit_gradients(size: int, ridge: float, seed: int, data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, min(size, 5)))
    rows, residuals = features(size, 6, seed), features(size, 3, seed + 1)
    gradients = slow_gradients(residuals, rows)
    order, weights = matching_order(GradientProducts(pack(residuals), pack(rows)), ridge, budget)
    assert len(set(order.tolist())) == budget
    for step in range(budget):
        picks = order[:step]
        system = gradients[picks] @ gradients[picks].T + ridge * np.eye(step)
        fitted = slow_solve(system, gradients[picks] @ gradients.mean(axis=0))
        gains = gradients @ (gradients.mean(axis=0) - fitted @ gradients[picks])
        left = [j for j in range(size) if j not in picks]
        assert gains[order[step]] >= gains[left].max() - 1e-3
    system = gradients[order] @ gradients[order].T + ridge * np.eye(budget)
    np.testing.assert_allclose(weights, slow_solve(system, gradients[order] @ gradients.mean(axis=0)), atol=1e-4)


def test_the_budget_is_met_when_nothing_is_left_to_match() -> None:
    equal = np.ones((6, 3), np.float32)
    assert matching_order(GradientProducts(pack(equal), pack(equal)), 1.0, 6)[0].tolist() == [0, 1, 2, 3, 4, 5]
    zero = GradientProducts(pack(equal * 0), pack(equal))
    order, weights = matching_order(zero, 1.0, 4)
    assert order.tolist() == [0, 1, 2, 3]
    assert weights.tolist() == [0, 0, 0, 0]
    with pytest.raises(MethodError, match="the group has 6"):
        matching_order(zero, 1.0, 7)


class Indefinite:
    """Indefinite products, as rounding makes them from large and almost equal gradients."""

    size = 3

    def rows(self, indices: np.ndarray | range) -> np.ndarray:
        return np.array([[1, 0.9, -0.1], [0.9, 0.8, 0], [-0.1, 0, -0.1]], np.float32)[np.asarray(indices)]


def test_a_ridge_that_rounding_swallows_is_refused() -> None:
    with pytest.raises(MethodError, match="ridge=1e-06 is lost in the rounding"):
        matching_order(Indefinite(), 1e-6, 2)
    assert np.isfinite(matching_order(Indefinite(), 1.0, 2)[1]).all()
