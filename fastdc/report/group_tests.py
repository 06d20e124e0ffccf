"""Find significant differences of means over seeds: Welch's test, false discovery rate, letters.

scipy is not a dependency of fastdc, so the distribution function is implemented here; tests compare it with scipy's.
"""

import math
import string
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

RATE = 0.05
TEST = (
    "Welch's two-sided t test between every two methods of a table at one IPC; false discovery rate 5 % "
    "(Benjamini and Hochberg); it assumes normal spread. With few seeds it may separate methods that share places."
)
LETTERS = string.ascii_letters
LIKE_BEST = "≈ best"
MOST = 100  # largest number of methods of a table whose pairs are all compared


class Sample(NamedTuple):
    """Mean, standard deviation (ddof=1) and number of runs of one method."""

    mean: float
    std: float
    n: int


def welch_p(first: Sample, second: Sample) -> float:
    """Return the two-sided p-value of Welch's t test (1947) for unequal variances; both samples need n >= 2.

    If neither sample has any spread, p is 0.0 for different means and 1.0 for equal ones.
    """
    first_error, second_error = first.std * first.std / first.n, second.std * second.std / second.n
    error = first_error + second_error
    if error == 0.0:
        return 1.0 if first.mean == second.mean else 0.0
    t = (first.mean - second.mean) / math.sqrt(error)
    shares = first_error / error, second_error / error  # shares, because squares of tiny errors would underflow
    freedom = 1.0 / (shares[0] ** 2 / (first.n - 1) + shares[1] ** 2 / (second.n - 1))
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))


def incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22).

    `rest` is 1 - x, passed separately because the subtraction would lose digits near x = 1.
    """
    if x <= 0.0 or rest <= 0.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges faster for 1 - I_{1-x}(b, a)
        return 1.0 - incomplete_beta(b, a, rest, x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(front) / a / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """Evaluate 1 + d1/(1 + d2/(1 + ...)) by Lentz's method, until another term changes nothing."""
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


def _compared(samples: Sequence[Sample | None]) -> list[int]:
    return [index for index, sample in enumerate(samples) if sample is not None and sample.n > 1]


def different_pairs(
    samples: Sequence[Sample | None], pairs: Iterable[tuple[int, int]] | None = None
) -> set[tuple[int, int]]:
    """Return the pairs (i, j) whose means differ, by Benjamini and Hochberg (1995).

    Args:
        samples: entries that are None or have only one run are not compared.
        pairs: those to test; None takes all, i < j.
    """
    pairs = combinations(_compared(samples), 2) if pairs is None else pairs
    tested = [(welch_p(first, second), (i, j)) for i, j in pairs if (first := samples[i]) and (second := samples[j])]
    tested.sort()
    count = len(tested)
    last = max((rank for rank, (p, _) in enumerate(tested, 1) if p <= RATE * rank / count), default=0)
    return {pair for _, pair in tested[:last]}


def letters(samples: Sequence[Sample | None]) -> list[str] | None:
    """Return significance groups: two methods differ if and only if they share no letter; "" for n < 2.

    This is the compact letter display by insert-and-absorb (Piepho, 2004). Letters follow the order of the samples,
    so pass the best first. The result is None if letters would be unreadable: for more than `MOST` methods, or more
    groups than letters. The number of groups can grow exponentially with the number of methods.
    """
    compared = _compared(samples)
    if len(compared) > MOST:
        return None
    groups: list[frozenset[int]] = [frozenset(compared)] if compared else []
    for first, second in sorted(different_pairs(samples)):
        split: list[frozenset[int]] = []
        for group in groups:
            both = {first, second} <= group
            split += [group - {first}, group - {second}] if both else [group]
        groups = [group for group in dict.fromkeys(split) if not any(group < other for other in split)]
        if len(groups) > len(LETTERS):
            return None
    groups.sort(key=sorted)
    named = list(zip(LETTERS, groups, strict=False))
    return ["".join(name for name, group in named if index in group) for index in range(len(samples))]


class Standing(NamedTuple):
    """Standing of a method on the leaderboard: its letters, and whether it is the best or may equal the best."""

    group: str
    best: bool


def standings(samples: Sequence[Sample | None]) -> list[Standing]:
    """Return the standing of every method; pass the best first.

    If there are too many letters, each method is compared with the best alone. If no two methods differ, only the
    first is marked as best, because marking all of them would be meaningless.
    """
    found = letters(samples)
    if found is None:
        first, *others = _compared(samples)
        worse = {pair[1] for pair in different_pairs(samples, [(first, other) for other in others])}
        found = [LIKE_BEST if index in {first, *others} - worse else "" for index in range(len(samples))]
        return [Standing(text, index == 0 or (bool(text) and first == 0)) for index, text in enumerate(found)]
    tied = len({text for text in found if text}) == 1
    return [
        Standing(text, index == 0 or (not tied and bool(set(text) & set(found[0])))) for index, text in enumerate(found)
    ]
