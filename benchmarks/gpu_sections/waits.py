"""Places at which the host waits for the device during an epoch, by file and line."""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from fastdc.loader import EvalView, open_loader
from fastdc.nn.accuracy import measure_accuracy
from fastdc.nn.device import choose_compute
from fastdc.nn.fit_loop import run_fit, steps_per_epoch
from fastdc.nn.models import build_model
from gpu_sections.findings import Fact, Finding, Found
from gpu_sections.setup import Setup
from gpu_sections.trainings import WARM_UP, Case, EpochClock, make_fit, open_case

CHECKOUT = Path(__file__).resolve().parents[2]
READS = 1
"""Waits that an epoch may have: it reads the sum of its losses once, at its end."""


def check(setup: Setup) -> Iterator[Finding]:
    """Count the waits of one epoch of training, and of one validation."""
    case = Case("convnet", 28, "fp32", Path(setup.subset), 10, 100, 10, 1)
    places, steps = training_waits(setup, case)
    yield Fact("epoch", {"steps": steps, "waits": places})
    yield Found("waits-step", max(0, sum(places.values()) - READS) / steps)
    validation = validation_waits(setup)
    yield Fact("validation", validation)
    yield Found("waits-validation", sum(validation.values()))


class WaitLog:
    """Counter of torch's warnings about waits between `start` and `stop`, by the innermost line of the checkout.

    Args:
        mode: function that sets torch's reaction to a wait.
    """

    def __init__(self, mode: Callable[[str], object] = torch.cuda.set_sync_debug_mode) -> None:
        self._mode = mode
        self.places: Counter[str] = Counter()
        self._shown: Callable[..., Any] = warnings.showwarning

    def start(self) -> None:
        """Begin to count."""
        warnings.simplefilter("always")
        self._shown, warnings.showwarning = warnings.showwarning, self._note  # type: ignore[assignment]
        self._mode("warn")

    def stop(self) -> None:
        """Stop counting."""
        self._mode("default")
        warnings.showwarning = self._shown

    def _note(self, message: Warning | str, *_: object) -> None:
        if "called a synchronizing" in str(message):  # another warning introduces the mode itself
            self.places[innermost(traceback.extract_stack())] += 1


def innermost(stack: traceback.StackSummary) -> str:
    """Return the innermost frame of the package as file:line, or of any file where none is of the package."""
    frames = [frame for frame in stack if frame.filename not in (__file__, warnings.__file__)]
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(CHECKOUT / "fastdc")]
    found = (ours or frames)[-1]
    path = Path(found.filename)
    return f"{path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path}:{found.lineno}"


def training_waits(setup: Setup, case: Case) -> tuple[dict[str, int], int]:
    """Return the waits of the epoch after the warm-up by place, and its steps."""
    log = WaitLog()
    clock = EpochClock({WARM_UP - 1: log.start, WARM_UP: log.stop})
    with open_case(setup, case) as loader:
        run_fit(make_fit(case, loader, clock), loader)
        return dict(log.places), steps_per_epoch(loader)


def validation_waits(setup: Setup) -> dict[str, int]:
    """Return the waits of a second validation by place."""
    log, compute = WaitLog(), choose_compute("fp32", 0)
    model = build_model("convnet", 10, 28, 0).to(compute.device)
    with open_loader(Path(setup.val), EvalView(28), batch_size=256, engine="device", device=compute.device) as loader:
        measure_accuracy(model, loader, 10, compute)
        log.start()
        try:
            measure_accuracy(model, loader, 10, compute)
        finally:
            log.stop()
    return dict(log.places)
