"""Accuracy in each precision over seeds, paired by seed with fp32, and fp32 with the CPU's accuracies."""

from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any

from fastdc.common.choices import Precision
from gpu_sections.cells import accuracy, native, reference
from gpu_sections.findings import Absent, Fact, Finding, Found
from gpu_sections.setup import Setup

REPEATS = 3


def check(setup: Setup) -> Iterator[Finding]:
    """Train every seed in every precision."""
    others: tuple[Precision, ...] = ("bf16", "tf32", "fp16") if setup.on_cuda else ("bf16",)
    found = {"fp32": _of_seeds(setup, "fp32")}
    yield Fact("fp32", _summary(found["fp32"]))
    for precision in others:
        found[precision] = _of_seeds(setup, precision)
        yield Fact(precision, _summary(found[precision]))
        yield Found(f"accuracy-{precision}", distance(found[precision], found["fp32"]))
    stored = reference(setup)
    if stored is None:
        yield Absent("accuracy-cpu", "the bundle has no accuracies of the CPU for cells of this length")
    else:
        yield Fact("fp32 on the CPU", _summary(stored))
        yield Found("accuracy-cpu", distance(found["fp32"], stored))


def check_spread(setup: Setup) -> Iterator[Finding]:
    """Train one seed three times."""
    found = [accuracy(setup, 0, native(setup)) for _ in range(REPEATS)]
    yield Fact("accuracies", found)
    yield Found("spread", max(found) - min(found))


def _of_seeds(setup: Setup, precision: Precision) -> list[float]:
    return [accuracy(setup, seed, precision) for seed in range(setup.size.seeds)]


def distance(found: Sequence[float], expected: Sequence[float]) -> float:
    """Return the distance of two means, in points."""
    return abs(mean(found) - mean(expected))


def _summary(found: Sequence[float]) -> dict[str, Any]:
    return {"mean": mean(found), "std": stdev(found), "by_seed": list(found)}
