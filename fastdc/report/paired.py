"""Compare two methods over the same seeds: difference, interval, exact permutation test, seeds that a claim needs."""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.report.significance import incomplete_beta

LEVEL, POWER = 0.05, 0.8
EXACT_PAIRS = 40
SLACK = 1e-9
"""Sums of differences in percent that are closer than this are equal: accuracies are multiples of 100 / N."""


class Paired(NamedTuple):
    """The difference of two methods over n paired seeds, in percentage points.

    Attributes:
        n: pairs. mean: mean of first - second. std: its sample standard deviation (ddof=1); None for one pair.
        low, high: the 95 % confidence interval of Student's t for the mean; None for one pair.
        p: two-sided p-value of `sign_flip_p`; None for one pair.
        smallest_p: the least p that n pairs can give, 2 / 2^n.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None
    p: float | None
    smallest_p: float


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare two methods whose entries of one index share a seed.

    Args:
        first, second: accuracies in percent, [n] each, n >= 1.
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

    Under the null hypothesis every difference has either sign with equal chance (Fisher 1935). p is the share of the
    2^n sign patterns whose sum is at least as far from 0 as the one found. All patterns are counted up to 40 pairs: the
    sums of each half are sorted, then matched. Above that the paired t test takes its place.
    """
    n, observed = len(differences), abs(float(differences.sum()))
    if n > EXACT_PAIRS:
        return _t_test_p(differences)
    left, right = _signed_sums(differences[: n // 2]), np.sort(_signed_sums(differences[n // 2 :]))
    threshold = observed - SLACK
    if threshold <= 0:
        return 1.0
    above = right.size - np.searchsorted(right, threshold - left, "left")
    return 2.0 * float(above.sum()) / 2.0**n


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """All sums of these values under either sign, float64 [2^n]."""
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
    """Two-sided tail probability of Student's t."""
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))


@lru_cache(maxsize=1024)
def student_quantile(freedom: int, level: float = LEVEL) -> float:
    """Return t with a two-sided tail probability of `level`, by bisection."""
    low, high = 0.0, 1.0
    while _student_tail(high, freedom) > level:
        low, high = high, high * 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _student_tail(middle, freedom) > level else (low, middle)
    return high


def seeds_needed(difference: float, std: float) -> int | None:
    """Return how many paired seeds show a difference at the 5 % level in 4 of 5 studies; None for no difference.

    The sample size of a paired t test with Guenther's correction (1981). At least 6, with which alone the exact test
    can give p < 0.05.

    Args:
        difference: to be seen, in percentage points. std: of the paired differences.
    """
    if abs(difference) < SLACK:
        return None
    normal = NormalDist()
    tail, power = normal.inv_cdf(1 - LEVEL / 2), normal.inv_cdf(POWER)
    needed = ((tail + power) * std / difference) ** 2 + tail * tail / 2
    return max(math.ceil(needed), math.ceil(1 - math.log2(LEVEL)))


def seeds_for_claims(claims: int) -> int:
    """Return the least number of pairs with which one of so many claims can reach p < 0.05 after `holm`."""
    return math.floor(1 - math.log2(LEVEL / max(1, claims))) + 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for several claims, in the order given (Holm 1979)."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
