"""Measure the cost of going from one epoch to the next."""

import time
from collections.abc import Callable, Iterable

import numpy as np
from harness.race import Outcome


def between_epochs(epoch: Callable[[int], Iterable[object]], epochs: int) -> Outcome:
    """Measure the median time from an epoch's last batch to the next epoch's first, minus the time between two batches.

    The consumer does nothing, so the time between two batches is the time to make one. The rest is the cost of the
    turnaround.
    """
    gaps: list[float] = []
    within: list[float] = []
    last = 0.0
    for number in range(epochs + 1):
        for position, _ in enumerate(epoch(number)):
            now = time.perf_counter()
            if position:
                within.append(now - last)
            elif number:
                gaps.append(now - last)
            last = now
    usual, gap = float(np.median(within)), float(np.median(gaps))
    facts = {"usual_batch_ms": round(usual * 1e3, 2), "whole_gap_ms": round(gap * 1e3, 2), "epochs": epochs}
    return Outcome(1, seconds=max(gap - usual, 1e-6), facts=lambda: facts)  # positive, because ratios divide by it
