"""Which differences of two means over seeds are more than chance: Welch's test, false discovery rate, letters.

scipy is no dependency of fastdc, so the distribution function is here; the tests compare it with scipy's.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

RATE = 0.05
TEST = (
    "Welch's two-sided t test between every two methods of a table at one IPC; false discovery rate 5 % "
    "(Benjamini and Hochberg)"
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Sample(NamedTuple):
    """Mean, standard deviation (ddof=1) and number of runs of one method."""

    mean: float
    std: float
    n: int


def welch_p(first: Sample, second: Sample) -> float:
    """Two-sided p-value of Welch's t test (1947), unequal variances; both samples need n >= 2.

    Two samples without any spread differ for certain (0.0) or not at all (1.0).
    """
    first_error, second_error = first.std**2 / first.n, second.std**2 / second.n
    error = first_error + second_error
    if error == 0.0:
        return 1.0 if first.mean == second.mean else 0.0
    t = (first.mean - second.mean) / math.sqrt(error)
    freedom = error**2 / (first_error**2 / (first.n - 1) + second_error**2 / (second.n - 1))
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))


def incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """Regularised incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22).

    `rest` is 1 - x, given apart because the difference loses digits near x = 1.
    """
    if x <= 0.0 or rest <= 0.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1.0 - incomplete_beta(b, a, rest, x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(front) / a / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)) by Lentz' method, until a further term changes nothing."""
    value, ratio, inverse = 1.0, 1.0, 0.0
    for index in range(1, 1000):
        m = index // 2
        if index % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        inverse = 1.0 / (1.0 + term * inverse)
        ratio = 1.0 + term / ratio
        value *= ratio * inverse
        if abs(ratio * inverse - 1.0) < 1e-14:
            break
    return value


def different_pairs(samples: Sequence[Sample | None], rate: float = RATE) -> set[tuple[int, int]]:
    """Pairs (i, j), i < j, whose means differ: Benjamini and Hochberg (1995) over all pairs.

    None, or one run only, is compared with nothing.
    """
    tested = [
        (welch_p(first, second), pair)
        for pair in combinations(range(len(samples)), 2)
        if (first := samples[pair[0]]) and (second := samples[pair[1]]) and min(first.n, second.n) > 1
    ]
    tested.sort()
    count = len(tested)
    last = max((rank for rank, (p, _) in enumerate(tested, 1) if p <= rate * rank / count), default=0)
    return {pair for _, pair in tested[:last]}


def letters(samples: Sequence[Sample | None], rate: float = RATE) -> list[tuple[str, ...]]:
    """Significance groups: two methods differ if and only if they share no letter. Empty where n < 2.

    Compact letter display by insert-and-absorb (Piepho, 2004). Letters run in the order of the samples, so give the
    best first.
    """
    told = [index for index, sample in enumerate(samples) if sample is not None and sample.n > 1]
    groups: list[frozenset[int]] = [frozenset(told)] if told else []
    for first, second in sorted(different_pairs(samples, rate)):
        split: list[frozenset[int]] = []
        for group in groups:
            both = {first, second} <= group
            split += [group - {first}, group - {second}] if both else [group]
        groups = [group for group in dict.fromkeys(split) if not any(group < other for other in split)]
    groups.sort(key=sorted)
    names = [_letter(number) for number in range(len(groups))]
    return [
        tuple(name for name, group in zip(names, groups, strict=True) if index in group)
        for index in range(len(samples))
    ]


def _letter(number: int) -> str:
    """a..z, then a1..z1, a2.., for large tables."""
    rounds, place = divmod(number, len(LETTERS))
    return LETTERS[place] + (str(rounds) if rounds else "")
