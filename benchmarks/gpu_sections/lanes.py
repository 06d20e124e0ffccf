"""Runs side by side on one device, each on a stream of its own: images per second, and whether each ends as alone."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fastdc.loader import Loader, TrainView, open_loader
from fastdc.nn.fit_loop import JoinedStreams, run_fits
from gpu_sections.findings import Fact, Finding, Found
from gpu_sections.setup import Setup
from gpu_sections.trainings import WARM_UP, Case, EpochClock, make_fit

COUNTS = (1, 2, 4, 8)
JUDGED = 4
"""Number of runs whose gain is a claim."""


def check(setup: Setup) -> Iterator[Finding]:
    """Train 1, 2, 4 and 8 runs at once on a GPU; then, in fp32 and on any device, four at once and each alone."""
    case = Case("convnet", 28, "bf16", Path(setup.subset), 10, 100, 10, setup.size.timed)
    if setup.on_cuda:
        rates = {count: rate(case, train(setup, case, range(count))) for count in COUNTS}
        yield Fact("images_per_second", rates)
        yield Found("lanes-gain", rates[JUDGED] / rates[1])
    exact = case._replace(precision="fp32", timed=1)
    together = train(setup, exact, range(JUDGED))
    alone = [train(setup, exact, [seed])[0] for seed in range(JUDGED)]
    yield Found("lanes-loss", max(apart(one, other) for one, other in zip(together, alone, strict=True)))


def open_order(setup: Setup, case: Case, seed: int) -> Loader:
    """Open the images of a case on the device, in the order and views of a seed."""
    return open_loader(
        case.path,
        TrainView(case.side),
        batch_size=case.batch,
        seed=seed,
        shuffle=True,
        indices=np.arange(case.images),
        engine="device",
        device=setup.device,
    )


def train(setup: Setup, case: Case, seeds: Sequence[int]) -> list[EpochClock]:
    """Train a run for each seed at once, and return their clocks."""
    clocks = [EpochClock() for _ in seeds]
    with ExitStack() as stack:
        loaders = [stack.enter_context(open_order(setup, case, seed)) for seed in seeds]
        fits = [make_fit(case, loader, clock) for loader, clock in zip(loaders, clocks, strict=True)]
        faults = run_fits(fits, JoinedStreams(loaders))
    for fault in filter(None, faults):
        raise fault
    return clocks


def rate(case: Case, clocks: Sequence[EpochClock]) -> float:
    """Return the images per second of all runs together, in the epochs that are timed."""
    return len(clocks) * case.images * case.timed / max(sum(clock.seconds[WARM_UP:]) for clock in clocks)


def apart(one: EpochClock, other: EpochClock) -> float:
    """Return the relative difference of the losses of the first epoch, before last bits have grown."""
    return abs(one.losses[0] - other.losses[0]) / other.losses[0]
