"""Compare two methods over the same seeds: difference, interval, exact permutation test, number of seeds needed."""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.report.group_tests import incomplete_beta

LEVEL, POWER = 0.05, 0.8
EXACT_PAIRS = 40
SLACK = 1e-9
"""Tolerance within which sums of differences in percent count as equal.

Accuracies are multiples of 100 / N, so sums that should be equal differ only by rounding.
"""


class Paired(NamedTuple):
    """Difference of two methods over n paired seeds, in percentage points.

    Attributes:
        n: pairs. mean: mean of first - second. std: its sample standard deviation (ddof=1); None for one pair.
        low, high: the 95 % confidence interval of Student's t for the mean; None for one pair.
        p: two-sided p-value of `sign_flip_p`; None for one pair.
        smallest_p: the smallest p that the exact test can give for n pairs, 2 / 2^n.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None
    p: float | None
    smallest_p: float


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare two methods by accuracies that are paired by seed.

    Args:
        first, second: accuracies in percent, [n] each, n >= 1; entries of equal index share a seed.
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    n, mean = len(differences), fmean(differences)
    smallest = min(1.0, 2.0 ** (1 - n))
    if n < 2:
        return Paired(n, mean, None, None, None, None, smallest)
    low, high = mean_interval(differences.tolist())
    return Paired(n, mean, stdev(differences), low, high, sign_flip_p(differences), smallest)


def mean_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the 95 % confidence interval of Student's t for the mean of [n] values; None for one value."""
    n = len(values)
    if n < 2:
        return None, None
    mean, half = fmean(values), student_quantile(n - 1) * stdev(values) / math.sqrt(n)
    return mean - half, mean + half


def sign_flip_p(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of the exact sign-flip permutation test on paired differences [n].

    Under the null hypothesis every difference has either sign with equal probability (Fisher 1935). p is the share of
    the 2^n sign patterns whose sum is at least as far from 0 as the observed one. Up to 40 pairs all patterns are
    counted by meeting in the middle: the sums of both halves are listed, one half sorted, then matched. Above 40 pairs
    the paired t test is used instead.
    """
    n, observed = len(differences), abs(float(differences.sum()))
    if n > EXACT_PAIRS:
        return _t_test_p(differences)
    left, right = _signed_sums(differences[: n // 2]), np.sort(_signed_sums(differences[n // 2 :]))
    threshold = observed - SLACK
    if threshold <= 0:
        return 1.0
    # Count the patterns with left + right >= threshold; by symmetry the other tail holds as many.
    above = right.size - np.searchsorted(right, threshold - left, "left")
    return 2.0 * float(above.sum()) / 2.0**n


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of these values under all sign patterns, float64 [2^n]."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _t_test_p(differences: NDArray[np.float64]) -> float:
    error = stdev(differences) / math.sqrt(len(differences))
    if error == 0.0:
        return 1.0 if fmean(differences) == 0.0 else 0.0
    return _student_tail(abs(fmean(differences)) / error, len(differences) - 1)


def _student_tail(t: float, freedom: int) -> float:
    """Return the two-sided tail probability of Student's t."""
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))


@lru_cache(maxsize=1024)
def student_quantile(freedom: int, level: float = LEVEL) -> float:
    """Return the t whose two-sided tail probability is `level`, by bisection."""
    low, high = 0.0, 1.0
    while _student_tail(high, freedom) > level:
        low, high = high, high * 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _student_tail(middle, freedom) > level else (low, middle)
    return high


def seeds_needed(difference: float, std: float) -> int | None:
    """Return the paired seeds needed to show a difference at the 5 % level with power 80 %; None for no difference.

    This is the sample size of a paired t test with Guenther's correction (1981). It is at least 6, the fewest pairs
    with which the exact test can give p < 0.05.

    Args:
        difference: difference to detect, in percentage points. std: standard deviation of the paired differences.
    """
    if abs(difference) < SLACK:
        return None
    normal = NormalDist()
    tail, power = normal.inv_cdf(1 - LEVEL / 2), normal.inv_cdf(POWER)
    needed = ((tail + power) * std / difference) ** 2 + tail * tail / 2
    return max(math.ceil(needed), math.ceil(1 - math.log2(LEVEL)))


def seeds_for_claims(claims: int, level: float = LEVEL) -> int:
    """Return the fewest pairs with which one of this many claims can reach p < level after `holm`."""
    return math.floor(1 - math.log2(level / max(1, claims))) + 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's method (1979), in the order given."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
