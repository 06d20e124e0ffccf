"""Paired statistics against scipy and plain counting."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fastdc.report.paired_tests import (
    EXACT_PAIRS,
    holm,
    mean_interval,
    paired,
    seeds_for_claims,
    seeds_needed,
    sign_flip_p,
    student_quantile,
)


@given(st.lists(st.integers(-300, 300), min_size=2, max_size=10))
def test_p_is_the_share_of_sign_patterns(levels: list[int]) -> None:
    """Patterns are counted one by one, in whole numbers, so that equal sums are equal."""
    sums = [abs(sum(sign * level for sign, level in zip(signs, levels, strict=True)))
            for signs in product((1, -1), repeat=len(levels))]  # fmt: skip
    expected = sum(value >= abs(sum(levels)) for value in sums) / len(sums)
    assert sign_flip_p(np.array(levels) / 100) == pytest.approx(expected, rel=1e-12)


def test_p_agrees_with_scipys_permutation_test() -> None:
    differences = np.random.default_rng(1).normal(0.4, 1.0, 12)
    theirs = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p(differences) == pytest.approx(theirs.pvalue, rel=1e-12)


def test_equal_signs_give_the_smallest_p() -> None:
    for n in (2, 5, 8, 23, EXACT_PAIRS):
        result = paired(np.arange(1.0, n + 1).tolist(), [0.0] * n)
        assert result.p == result.smallest_p == 2.0 ** (1 - n)


def test_more_pairs_than_can_be_counted_take_the_t_test() -> None:
    first, second = np.random.default_rng(2).normal(0, 1, (2, EXACT_PAIRS + 1))
    assert paired(first.tolist(), second.tolist()).p == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-9)


def test_interval_equals_students() -> None:
    first, second = np.random.default_rng(3).normal(50, 2, (2, 8))
    result = paired(first.tolist(), second.tolist())
    low, high = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((low, high), rel=1e-9)
    assert (result.n, result.mean) == (8, pytest.approx((first - second).mean()))
    assert result.std == pytest.approx((first - second).std(ddof=1))


@pytest.mark.parametrize("freedom", [1, 2, 7, 30, 1000])
def test_quantile_of_student(freedom: int) -> None:
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_one_pair_has_only_a_difference() -> None:
    assert paired([40.0], [38.5]) == (1, 1.5, None, None, None, None, 1.0)


def test_equal_methods_differ_by_nothing() -> None:
    result = paired([40.0, 41.0, 42.0], [40.0, 41.0, 42.0])
    assert (result.mean, result.low, result.high, result.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(("difference", "std"), [(1.0, 1.0), (1.0, 2.0), (0.5, 2.0), (2.0, 2.1)])
def test_seeds_needed_reach_the_stated_power(difference: float, std: float) -> None:
    """The noncentral t distribution gives the exact power of the paired t test: enough with n, not with n - 2."""

    def power(n: int) -> float:
        edge, shift = stats.t.ppf(0.975, n - 1), difference / std * np.sqrt(n)
        return float(stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift))

    needed = seeds_needed(difference, std)
    assert needed is not None
    assert power(needed) >= 0.8 > power(needed - 2)


def test_seeds_needed_at_the_limits() -> None:
    assert seeds_needed(0.0, 1.0) is None
    rounded = paired([10.1, 50.0], [10.0, 50.1]).mean  # 0 but for rounding
    assert rounded != 0.0
    assert seeds_needed(rounded, 1.0) is None
    assert seeds_needed(5.0, 0.0) == 6  # with fewer pairs the permutation test cannot give p < 0.05
    assert seeds_needed(-1.0, 2.0) == seeds_needed(1.0, 2.0)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_gives_the_least_level_at_which_its_steps_reject(p_values: list[float]) -> None:
    """By definition, the k smallest are rejected at a level as long as p_(k) <= level / (m - k + 1)."""
    m, adjusted = len(p_values), holm(p_values)
    order = sorted(range(m), key=p_values.__getitem__)
    for level in (0.01, 0.05, 0.3, 0.9):
        rejected: set[int] = set()
        for step, index in enumerate(order):
            if p_values[index] * (m - step) > level:
                break
            rejected.add(index)
        assert {index for index in range(m) if adjusted[index] <= level} == rejected


@pytest.mark.parametrize("claims", [0, 1, 2, 3, 6, 15, 28, 1000])
def test_seeds_for_claims_are_the_fewest(claims: int) -> None:
    n = seeds_for_claims(claims)
    assert max(1, claims) * 2.0 ** (1 - n) < 0.05 <= max(1, claims) * 2.0 ** (2 - n)


def test_the_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(4).normal(50, 2, 6)
    expected = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
    assert mean_interval(values.tolist()) == pytest.approx(expected, rel=1e-9)
    assert mean_interval([3.0]) == (None, None)
    assert mean_interval([3.0, 3.0]) == (3.0, 3.0)
