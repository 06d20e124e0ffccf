"""Trainings on streams of their own on a device: each ends as alone, with its own random numbers, and none waits.

The CPU's suite tests their order with streams that it imitates (`tests/nn/test_lane.py`). Runs with `-m gpu`.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdc.loader import Loader, LoaderRequest, TrainView, ViewRequest, open_stream
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import JoinedStreams, run_fit, run_fits
from fastdc.nn.step_graphs import CHECKED_STEPS
from tests.gpu.test_device_engine import no_cuda
from tests.gpu.test_step_graphs_device import BOUND, REDUCED_BOUND, losses, make_fit, mixed, stored
from tests.nn.test_step_graphs import Losses, Reading, nan_once

__all__ = ["stored"]  # a fixture

pytestmark = [pytest.mark.gpu, no_cuda]
SEEDS = (5, 6, 7, 8)


class Watched(Losses):
    """Keeps the generator's states and the streams of all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[list[int]] = []
        self.streams: set[int] = set()

    def step(self, samples: int) -> None:
        self.states.append(torch.cuda.get_rng_state().tolist())
        self.streams.add(torch.cuda.current_stream().cuda_stream)


class NoWait(Losses):
    """Lets torch fail at a wait of the host between the first and the last step of the last epoch."""

    def __init__(self, fit: Fit) -> None:
        super().__init__()
        self.fit = fit

    def step(self, samples: int) -> None:
        last = self.fit.epoch == self.fit.plan.epochs - 1
        inside = last and self.fit.batches_done + 2 < self.fit.plan.steps  # this step is not counted yet
        torch.cuda.set_sync_debug_mode("error" if inside else "default")


def open_views(train: Path, engine: Any, seeds: Sequence[int] = SEEDS, order: int = 5) -> Loader:
    requests = tuple(ViewRequest(TrainView(28), seed) for seed in seeds)
    return open_stream(
        LoaderRequest(
            train, requests, batch_size=16, order_seed=order, shuffle=True, engine=engine, device=torch.device("cuda")
        )
    )


def watched(loader: Loader, precision: str, **options: Any) -> Fit:
    fit = make_fit(loader, precision, epochs=CHECKED_STEPS + 2, **options)
    fit.recorder = Watched()
    return fit


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "plain"])
@pytest.mark.parametrize("targets", [None, mixed], ids=["plain targets", "mixed"])
@pytest.mark.parametrize(("engine", "precision"), [("device", "fp32"), ("device", "bf16"), ("resident", "fp32")])
def test_each_ends_as_it_would_alone(stored: Path, engine: Any, precision: str, targets: Any, graphs: bool) -> None:
    options = {"targets": targets, "arch": "convnet_w8" if precision == "fp32" else "resnet10"}
    single = []
    for seed in SEEDS:
        with open_views(stored, engine, [seed]) as loader:
            single.append(watched(loader, precision, **options))
            single[-1].graphs = single[-1].graphs if graphs else None
            run_fit(single[-1], loader)
    with open_views(stored, engine) as loader:
        fits = [watched(loader, precision, **options) for _ in SEEDS]
        for fit in fits:
            fit.graphs = fit.graphs if graphs else None
        assert run_fits(fits, loader) == [None] * len(SEEDS)
    streams = set()
    for fit, other in zip(fits, single, strict=True):
        assert losses(fit) == pytest.approx(losses(other), rel=BOUND if precision == "fp32" else REDUCED_BOUND)
        assert isinstance(fit.recorder, Watched)
        assert isinstance(other.recorder, Watched)
        assert fit.recorder.states == other.recorder.states
        assert len(fit.recorder.streams) == 1
        streams |= fit.recorder.streams
        assert (fit.graphs.reason if fit.graphs else "") == ""
    assert len(streams) == len(SEEDS)
    assert torch.cuda.default_stream().cuda_stream not in streams
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


def test_each_follows_its_own_order(stored: Path) -> None:
    single, orders = [], SEEDS[:2]
    for order in orders:
        with open_views(stored, "device", [order], order) as loader:
            single.append(watched(loader, "fp32"))
            run_fit(single[-1], loader)
    with ExitStack() as stack:
        loaders = [stack.enter_context(open_views(stored, "device", [order], order)) for order in orders]
        fits = [watched(loader, "fp32") for loader in loaders]
        assert run_fits(fits, JoinedStreams(loaders)) == [None, None]
    for fit, other in zip(fits, single, strict=True):
        assert losses(fit) == pytest.approx(losses(other), rel=BOUND)
        assert fit.graphs is not None
        assert fit.graphs.reason == ""


@pytest.mark.parametrize("targets", [None, mixed], ids=["plain targets", "mixed"])
def test_a_step_does_not_wait_for_the_host(stored: Path, targets: Any) -> None:
    with open_views(stored, "device") as loader:
        fits = [make_fit(loader, "bf16", targets=targets, epochs=CHECKED_STEPS + 2) for _ in SEEDS]
        fits[-1].recorder = NoWait(fits[-1])
        try:
            run_fits(fits, loader)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_one_that_diverges_leaves_the_others_alone(stored: Path) -> None:
    with open_views(stored, "device", SEEDS[1:2]) as loader:
        alone = make_fit(loader)
        run_fit(alone, loader)
    with open_views(stored, "device", SEEDS[:2]) as loader:
        fits = [make_fit(loader, targets=nan_once), make_fit(loader)]
        faults = run_fits(fits, loader)
    assert "loss is nan in epoch 2, step 4" in str(faults[0])
    assert faults[1] is None
    assert losses(fits[1]) == pytest.approx(losses(alone), rel=BOUND)
    assert all(each.isfinite().all() for each in fits[0].model.parameters())


def test_a_capture_that_breaks_ends_the_graphs_of_its_lane_only(stored: Path) -> None:
    single = []
    for seed, more in zip(SEEDS[:3], ((), (Reading(),), ()), strict=True):
        with open_views(stored, "device", [seed]) as loader:
            single.append(make_fit(loader, more=more, epochs=CHECKED_STEPS + 2))
            run_fit(single[-1], loader)
    with open_views(stored, "device", SEEDS[:3]) as loader:
        fits = [make_fit(loader, more=more, epochs=CHECKED_STEPS + 2) for more in ((), (Reading(),), ())]
        assert run_fits(fits, loader) == [None] * 3
    for fit, other in zip(fits, single, strict=True):
        assert losses(fit) == pytest.approx(losses(other), rel=BOUND)
    reasons = [fit.graphs.reason if fit.graphs else "no graphs" for fit in fits]
    assert "its capture failed" in reasons[1]
    assert reasons[::2] == ["", ""]


def test_finished_runs_return_their_memory(stored: Path) -> None:
    with open_views(stored, "device") as loader:
        kept = []
        for _ in range(4):
            run_fits([make_fit(loader) for _ in SEEDS], loader)
            torch.cuda.empty_cache()
            kept.append(torch.cuda.memory_reserved())
    assert kept[3] <= kept[1]
