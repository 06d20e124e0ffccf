"""Welch's test against scipy, false discovery rate and letters against their definitions."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastdc.report.significance import Sample, different_pairs, incomplete_beta, letters, welch_p

SAMPLES = st.builds(
    Sample,
    st.floats(0, 100),
    st.floats(0.01, 20),
    st.integers(2, 10),
)


@given(SAMPLES, SAMPLES)
@settings(deadline=None, max_examples=100)
def test_p_values_are_scipys(first: Sample, second: Sample) -> None:
    expected = stats.ttest_ind_from_stats(*first, *second, equal_var=False).pvalue
    assert welch_p(first, second) == pytest.approx(expected, rel=1e-8, abs=1e-14)
    assert welch_p(first, second) == welch_p(second, first)


@given(st.floats(0.3, 60), st.floats(0.3, 60), st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_incomplete_beta_is_scipys(a: float, b: float, x: float) -> None:
    from scipy.special import betainc

    assert incomplete_beta(a, b, x, 1 - x) == pytest.approx(betainc(a, b, x), rel=1e-8, abs=1e-12)


def test_samples_without_spread() -> None:
    assert welch_p(Sample(40, 0, 3), Sample(40, 0, 3)) == 1.0
    assert welch_p(Sample(40, 0, 3), Sample(41, 0, 3)) == 0.0


def test_false_discovery_rate_is_scipys() -> None:
    samples = [Sample(50, 1, 3), Sample(48.5, 0.5, 3), Sample(45, 1.5, 3), Sample(44.5, 0.3, 3), Sample(30, 2, 3)]
    pairs = list(combinations(range(len(samples)), 2))
    adjusted = stats.false_discovery_control([welch_p(samples[i], samples[j]) for i, j in pairs])
    expected = {pair for pair, p in zip(pairs, adjusted, strict=True) if p <= 0.05}
    assert different_pairs(samples) == expected
    assert 0 < len(expected) < len(pairs)


def test_letters_of_a_known_case() -> None:
    # 50 and 48 overlap, 48 and 46 overlap, 50 and 46 do not
    samples = [Sample(50, 1, 5), Sample(48.8, 1, 5), Sample(47.5, 1, 5), None, Sample(60, 0, 1), Sample(20, 1, 5)]
    assert ["".join(group) for group in letters(samples)] == ["a", "ab", "b", "", "", "c"]
    assert letters([]) == []
    assert letters([None, None]) == [(), ()]


@given(st.lists(SAMPLES, max_size=9))
@settings(deadline=None, max_examples=40)
def test_sharing_no_letter_means_different(samples: list[Sample]) -> None:
    samples = sorted(samples, reverse=True)
    found, different = letters(samples), different_pairs(samples)
    for i, j in combinations(range(len(samples)), 2):
        assert ((i, j) in different) == (not set(found[i]) & set(found[j]))


def test_more_groups_than_letters() -> None:
    groups = letters([Sample(100.0 - index, 0.01, 3) for index in range(60)])
    assert len({name for group in groups for name in group}) == 60
    assert groups[26] == ("a1",)
