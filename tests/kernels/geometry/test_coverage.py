"""Herding and k-center against plain code in float64, and their invariances."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.kernels.geometry.coverage import herding_order, k_center_order
from fastdc.kernels.geometry.products import Panels, pack

Order = Callable[[Panels, int], np.ndarray]


def slow_herding(rows: np.ndarray, budget: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(budget):
        left = [j for j in range(len(rows)) if j not in chosen]
        means = [rows[[*chosen, j]].mean(axis=0) for j in left]
        chosen.append(left[int(np.argmin([np.linalg.norm(rows.mean(axis=0) - mean) for mean in means]))])
    return chosen


def slow_k_center(rows: np.ndarray, budget: int) -> list[int]:
    chosen = [int(np.argmin(np.linalg.norm(rows - rows.mean(axis=0), axis=1)))]
    while len(chosen) < budget:
        left = [j for j in range(len(rows)) if j not in chosen]
        gaps = [min(np.linalg.norm(rows[j] - rows[i]) for i in chosen) for j in left]
        chosen.append(left[int(np.argmax(gaps))])
    return chosen


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40).filter(lambda size: size != 2), st.integers(2, 9), st.integers(0, 999), st.data())
def test_equals_the_slow_definitions(size: int, width: int, seed: int, data: st.DataObject) -> None:
    """Two samples are left out: both are equally far from their mean, so rounding decides."""
    budget = data.draw(st.integers(1, size))
    rows = np.random.default_rng(seed).standard_normal((size, width)).astype(np.float32)
    exact = rows.astype(np.float64)
    assert herding_order(pack(rows), budget).tolist() == slow_herding(exact, budget)
    assert k_center_order(pack(rows), budget).tolist() == slow_k_center(exact, budget)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(24)), st.integers(1, 24))
@pytest.mark.parametrize("order", [herding_order, k_center_order])
def test_permuting_samples_permutes_the_choice(order: Order, moved: list[int], budget: int) -> None:
    rows = np.random.default_rng(3).standard_normal((24, 6)).astype(np.float32)
    expected = order(pack(rows), budget)
    assert [moved[i] for i in order(pack(rows[moved]), budget)] == expected.tolist()


@pytest.mark.parametrize("order", [herding_order, k_center_order])
def test_equal_samples_are_chosen_by_index(order: Order) -> None:
    assert order(pack(np.ones((5, 3), np.float32)), 5).tolist() == [0, 1, 2, 3, 4]
    assert order(pack(np.zeros((3, 2), np.float32)), 2).tolist() == [0, 1]


@pytest.mark.parametrize("order", [herding_order, k_center_order])
@pytest.mark.parametrize("budget", [0, 6])
def test_refuses_a_budget_out_of_range(order: Order, budget: int) -> None:
    with pytest.raises(MethodError, match=f"{budget} images requested, but the group has 5"):
        order(pack(np.ones((5, 3), np.float32)), budget)


def test_herding_follows_the_mean_and_not_the_outlier() -> None:
    rows = np.array([[0.0], [1.0], [2.0], [3.0], [100.0]], np.float32)
    assert herding_order(pack(rows), 1).tolist() == [3]  # mean 21.2; an argmax would take 100
    assert k_center_order(pack(rows), 2).tolist() == [3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_herding_gives_exact_ties_to_the_lower_index(seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 3, (40, 6))
    left, picked, expected = list(range(40)), np.zeros(6, np.int64), []
    for step in range(20):  # 40 times the difference of the means, in whole numbers
        gaps = [int(((rows.sum(axis=0) * (step + 1) - 40 * (picked + rows[j])) ** 2).sum()) for j in left]
        expected.append(left.pop(int(np.argmin(gaps))))
        picked = picked + rows[expected[-1]]
    assert herding_order(pack(rows.astype(np.float32)), 20).tolist() == expected
