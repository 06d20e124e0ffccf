"""Compute statistics of repetitions."""

from collections.abc import Sequence
from statistics import median, quantiles


def spread(values: Sequence[float]) -> list[float]:
    """Return the smallest value, first quartile, third quartile and largest value."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return [ordered[0]] * 4
    first, _, third = quantiles(ordered, n=4, method="inclusive")
    return [ordered[0], first, third, ordered[-1]]


def significant(value: float, digits: int = 4) -> float:
    """Return `value` rounded to this many significant digits."""
    return float(f"{value:.{digits}g}")


__all__ = ["median", "significant", "spread"]
