"""Trainings whose epochs are timed: fastdc's own loop, loader and optimizer, on images that lie on the device."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from fastdc.common.choices import Precision
from fastdc.loader import Batch, Loader, TrainView, open_loader
from fastdc.nn.device import choose_compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import Epochs, run_fit, steps_per_epoch
from fastdc.nn.fit_plan import FitPlan, Recorder
from fastdc.nn.models import build_model
from fastdc.train import get_protocol
from fastdc.train.network_training import make_optimizer
from gpu_sections.setup import Setup

WARM_UP = 2
"""Epochs before the first that is timed."""


class Case(NamedTuple):
    """Network and images of a training.

    Attributes:
        arch, side, precision: of the network. path: beton. classes: in it.
        images: of an epoch. batch: images of a step. timed: epochs that are timed.
    """

    arch: str
    side: int
    precision: Precision
    path: Path
    classes: int
    images: int
    batch: int
    timed: int

    @property
    def name(self) -> str:
        """Return the case in words."""
        return f"{self.arch} {self.side} px {self.precision}"


class EpochClock(Recorder):
    """Recorder of the time at which each epoch ends, when the host has its loss and so has waited for the device.

    Args:
        after: what to do after an epoch, by its number; it is not part of the next epoch's time.
    """

    def __init__(self, after: dict[int, Callable[[], object]] | None = None) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._after, self._start = after or {}, time.perf_counter()

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        """See the base class."""
        self.seconds.append(time.perf_counter() - self._start)
        self.losses.append(loss)
        self._after.get(epoch, lambda: None)()
        self._start = time.perf_counter()


class SameBatch:
    """Stream that repeats one batch, so that its training waits for no loader."""

    def __init__(self, batch: Batch, steps: int) -> None:
        self._batch, self._steps = batch, steps

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        """See `Loader.epoch_views`."""
        return iter([(self._batch,)] * (self._steps - start))


def open_case(setup: Setup, case: Case) -> Loader:
    """Open the images of a case on the device."""
    chosen = np.arange(case.images)
    view = TrainView(case.side)
    return open_loader(
        case.path, view, batch_size=case.batch, shuffle=True, indices=chosen, engine="device", device=setup.device
    )


def make_fit(case: Case, loader: Loader, clock: EpochClock, compiled: bool = False) -> Fit:
    """Build the training of a case, as an evaluation by the protocol `hard` does."""
    compute = choose_compute(case.precision, 0)
    model = build_model(case.arch, case.classes, case.side, 0).to(compute.device)
    plan = FitPlan(
        epochs=WARM_UP + case.timed,
        steps=steps_per_epoch(loader),
        learning_rate=lambda *_: 1e-3,
        loss=nn.functional.cross_entropy,
        seed=0,
    )
    network: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]
    return Fit(network, make_optimizer(model, get_protocol("hard")), compute, plan, clock)


def images_per_second(case: Case, clock: EpochClock) -> float:
    """Return images per second in the median of the timed epochs."""
    timed = sorted(clock.seconds[WARM_UP:])
    return case.images / timed[len(timed) // 2]


def train(setup: Setup, case: Case, stream: Epochs | None = None) -> EpochClock:
    """Train a case to its end and return its clock; `stream` replaces its images."""
    clock = EpochClock()
    with open_case(setup, case) as loader:
        run_fit(make_fit(case, loader, clock), stream or loader)
    return clock
