"""Welch's test against scipy, false discovery rate and letters against their definitions."""

import time
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastdc.report.group_tests import (
    LIKE_BEST,
    Sample,
    different_pairs,
    incomplete_beta,
    letters,
    standings,
    welch_p,
)

SAMPLES = st.builds(
    Sample,
    st.floats(0, 100),
    st.floats(0.01, 20),
    st.integers(2, 10),
)


@given(SAMPLES, SAMPLES)
@settings(deadline=None, max_examples=100)
def test_p_values_equal_scipys(first: Sample, second: Sample) -> None:
    expected = stats.ttest_ind_from_stats(*first, *second, equal_var=False).pvalue
    assert welch_p(first, second) == pytest.approx(expected, rel=1e-8, abs=1e-14)
    assert welch_p(first, second) == welch_p(second, first)


@given(st.floats(0.3, 60), st.floats(0.3, 60), st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_incomplete_beta_equals_scipys(a: float, b: float, x: float) -> None:
    from scipy.special import betainc

    assert incomplete_beta(a, b, x, 1 - x) == pytest.approx(betainc(a, b, x), rel=1e-8, abs=1e-12)


def test_samples_without_spread() -> None:
    assert welch_p(Sample(40, 0, 3), Sample(40, 0, 3)) == 1.0
    assert welch_p(Sample(40, 0, 3), Sample(41, 0, 3)) == 0.0


def test_false_discovery_rate_equals_scipys() -> None:
    samples = [Sample(50, 1, 3), Sample(48.5, 0.5, 3), Sample(45, 1.5, 3), Sample(44.5, 0.3, 3), Sample(30, 2, 3)]
    pairs = list(combinations(range(len(samples)), 2))
    adjusted = stats.false_discovery_control([welch_p(samples[i], samples[j]) for i, j in pairs])
    expected = {pair for pair, p in zip(pairs, adjusted, strict=True) if p <= 0.05}
    assert different_pairs(samples) == expected
    assert 0 < len(expected) < len(pairs)


def test_letters_of_a_known_case() -> None:
    # 50 and 48 overlap, 48 and 46 overlap, 50 and 46 do not
    samples = [Sample(50, 1, 5), Sample(48.8, 1, 5), Sample(47.5, 1, 5), None, Sample(60, 0, 1), Sample(20, 1, 5)]
    assert letters(samples) == ["a", "ab", "b", "", "", "c"]
    assert letters([]) == []
    assert letters([None, None]) == ["", ""]


@given(st.lists(SAMPLES, max_size=9))
@settings(deadline=None, max_examples=40)
def test_sharing_no_letter_means_different(samples: list[Sample]) -> None:
    samples = sorted(samples, reverse=True)
    found, different = letters(samples), different_pairs(samples)
    assert found is not None
    for i, j in combinations(range(len(samples)), 2):
        assert ((i, j) in different) == (not set(found[i]) & set(found[j]))


def test_every_method_has_its_own_group() -> None:
    groups = letters([Sample(100.0 - index, 0.01, 3) for index in range(52)])
    assert groups is not None
    assert (groups[0], groups[26], len(set(groups))) == ("a", "A", 52)


def test_too_many_groups_are_compared_with_the_best_only() -> None:
    """Their number grows exponentially: 200 methods of unequal spread once never finished."""
    draw = Random(0)
    many = sorted((Sample(draw.gauss(40, 4), abs(draw.gauss(0, 1)) + 0.05, 3) for _ in range(400)), reverse=True)
    start = time.process_time()
    assert letters(many[::5]) is None  # 80: few enough to test
    found = standings([*many, None, Sample(1, 0, 1)])
    assert time.process_time() - start < 3
    assert found[-2:] == [("", False), ("", False)]
    adjusted = stats.false_discovery_control([welch_p(many[0], other) for other in many[1:]])
    assert [standing.best for standing in found[1:400]] == [p > 0.05 for p in adjusted]
    assert {standing.group for standing in found if standing.best} == {LIKE_BEST}
    assert 1 < sum(standing.best for standing in found) < 400


def test_without_significant_differences_only_the_first_is_best() -> None:
    wide = [Sample(48.6, 1.7, 2), Sample(43.2, 1.3, 2), Sample(30.5, 3.6, 2)]
    assert standings(wide) == [("a", True), ("a", False), ("a", False)]
    clear = [Sample(50, 1, 5), Sample(49.8, 1, 5), Sample(20, 1, 5), None]
    assert standings(clear) == [("a", True), ("a", True), ("b", False), ("", False)]
    assert standings([None, None]) == [("", True), ("", False)]
    assert standings([]) == []


@given(st.floats(1e-120, 1e-60), st.integers(2, 9))
def test_a_tiny_spread_is_still_a_spread(std: float, n: int) -> None:
    assert welch_p(Sample(40, std, n), Sample(41, std, n)) < 1e-50
    expected = stats.ttest_ind_from_stats(0, 1, n, 1, 1, n, equal_var=False).pvalue
    assert welch_p(Sample(0, std, n), Sample(std, std, n)) == pytest.approx(expected, rel=1e-6)
