"""Trainings in lanes of their own: each ends as it would alone, and nothing that they compute is out of order.

Streams and graphs are those of `streams` and `tape`; a real GPU runs them in `tests/gpu/test_lanes_device.py`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdc.common.errors import DivergedError
from fastdc.loader import Batch, Loader, LoaderRequest, TrainView, ViewRequest, open_stream
from fastdc.nn import fit_loop
from fastdc.nn.cuda_capture import CudaCapture
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import run_fit, run_fits
from fastdc.nn.lane import CudaLane, Lane, own_lane
from fastdc.nn.visit_program import VisitProgram
from tests.nn.streams import Stream, Streams, as_on_cuda
from tests.nn.test_step_graphs import (
    CPU,
    Killed,
    KilledError,
    Losses,
    Reading,
    assert_equal,
    drawn_in_one_operation,
    first_target,
    make_fit,
    make_network,
    nan_once,
    shifted,
)

__all__ = ["drawn_in_one_operation"]  # a fixture of every test

SEEDS = (5, 6, 7)


class Watched(Losses):
    """Keeps the stream and the generator's state in which each step ran."""

    def __init__(self, streams: Streams, order: list[str] | None = None) -> None:
        super().__init__()
        self.streams, self.order = streams, order if order is not None else []
        self.places: set[tuple[Any, Any]] = set()

    def step(self, samples: int) -> None:
        self.places.add((self.streams.current, self.streams.generator.state))
        self.order.append("step")

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        super().epoch_end(epoch, loss, lr)
        self.order.append("end")


class OnHost:
    """Stream whose batches are made on the host."""

    def __init__(self, stream: Loader, streams: Streams) -> None:
        self.stream, self.streams = stream, streams

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        batches = self.stream.epoch_views(epoch, start)
        while True:
            with self.streams.on_host():
                found = next(batches, None)
            if found is None:
                return
            yield found


def open_views(train: Path, seeds: Sequence[int], engine: Any = "device", batch: int = 32) -> Loader:
    requests = tuple(ViewRequest(TrainView(28), seed) for seed in seeds)
    return open_stream(LoaderRequest(train, requests, batch_size=batch, order_seed=5, shuffle=True, engine=engine))


def alone(train: Path, seed: int, engine: Any = "device", batch: int = 32, **options: Any) -> Fit:
    with open_views(train, [seed], engine, batch) as loader:
        fit = make_fit(loader, Losses(), **options)
        run_fit(fit, loader)
    return fit


def in_lanes(streams: Streams, stream: Loader, fits: Sequence[Fit], overlap: bool = True) -> list[DivergedError | None]:
    """Train runs as on a GPU; then read their weights there, and free everything that one of them made."""
    source = stream if stream.engine == "device" else OnHost(stream, streams)
    with streams:
        faults = run_fits(fits, source, overlap)
        for fit in fits:
            for value in fit.model.parameters():
                value.detach().clone()
    return faults


@pytest.mark.parametrize(
    ("engine", "batch", "options", "graphs"),
    [
        ("device", 32, {}, True),
        ("device", 17, {}, False),
        ("device", 32, {"targets": shifted, "loss": first_target}, True),
        ("device", 17, {"targets": shifted, "loss": first_target}, False),
        ("resident", 32, {}, True),
    ],
    ids=["programs", "plain programs", "device batches", "plain device batches", "host batches"],
)
def test_each_ends_as_it_would_alone(
    betons: Any, monkeypatch: pytest.MonkeyPatch, engine: Any, batch: int, options: dict[str, Any], graphs: bool
) -> None:
    seeds = SEEDS[:2] if graphs else (5, 5)  # of one seed, runs share the tensors of a batch
    expected = [alone(betons.train, seed, engine, batch, **options) for seed in seeds]
    streams = as_on_cuda(monkeypatch)
    with open_views(betons.train, seeds, engine, batch) as stream:
        recorders = [Watched(streams) for _ in seeds]
        fits = [make_fit(stream, recorder, CudaCapture() if graphs else None, **options) for recorder in recorders]
        assert in_lanes(streams, stream, fits) == [None, None]
    for fit, other in zip(fits, expected, strict=True):
        assert_equal(fit, other)
        assert fit.graphs is None or fit.graphs.reason == ""
    assert streams.races == []
    places = [place for recorder in recorders for place in recorder.places]
    assert len(places) == len({stream for stream, _ in places}) == len({state for _, state in places}) == len(seeds)
    assert streams.default not in {stream for stream, _ in places}


@pytest.mark.parametrize("stops", [(6, 99), (99, 6)])
def test_runs_that_a_kill_left_at_different_places_meet_again(
    betons: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stops: tuple[int, int]
) -> None:
    seeds, files = SEEDS[:2], [tmp_path / f"{number}.pt" for number in range(2)]
    expected = [alone(betons.train, seed) for seed in seeds]
    streams = as_on_cuda(monkeypatch)
    with open_views(betons.train, seeds) as stream:
        pairs = zip(stops, files, strict=True)
        killed = [make_fit(stream, Killed(stop), CudaCapture(), checkpoint=file) for stop, file in pairs]
        with pytest.raises(KilledError):
            in_lanes(streams, stream, killed)
        fits = [make_fit(stream, Losses(), CudaCapture(), checkpoint=file) for file in files]
        assert in_lanes(streams, stream, fits) == [None, None]
    for fit, other in zip(fits, expected, strict=True):
        assert_equal(fit, other)
    assert streams.races == []


def test_one_that_diverges_leaves_the_others_alone(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(betons.train, SEEDS[1])
    streams = as_on_cuda(monkeypatch)
    with open_views(betons.train, SEEDS[:2]) as stream:
        fits = [make_fit(stream, Losses(), CudaCapture(), targets=nan_once), make_fit(stream, Losses(), CudaCapture())]
        faults = in_lanes(streams, stream, fits)
    assert "loss is nan in epoch 2, step 4" in str(faults[0])
    assert faults[1] is None
    assert_equal(fits[1], expected)
    assert all(each.isfinite().all() for each in fits[0].model.parameters())
    assert streams.races == []


def break_one(
    betons: Any, monkeypatch: pytest.MonkeyPatch, breaks: int, overlap: bool = True
) -> tuple[list[Fit], Streams]:
    """Train three runs, of which one cannot be captured; each ends as it would alone."""
    networks = [lambda: None] * len(SEEDS)
    networks[breaks] = lambda: make_network().append(Reading())
    expected = [alone(betons.train, seed, model=network()) for seed, network in zip(SEEDS, networks, strict=True)]
    streams = as_on_cuda(monkeypatch)
    with open_views(betons.train, SEEDS) as stream:
        fits = [make_fit(stream, Watched(streams), CudaCapture(), model=network()) for network in networks]
        assert in_lanes(streams, stream, fits, overlap) == [None] * len(fits)
    for fit, other in zip(fits, expected, strict=True):
        assert_equal(fit, other)
    assert streams.races == []
    assert not streams.open
    return fits, streams


def test_a_capture_that_breaks_ends_the_graphs_of_its_lane_only(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fits, _ = break_one(betons, monkeypatch, breaks=1)
    reasons = [fit.graphs.reason for fit in fits]
    assert reasons[1].startswith("its capture failed (RuntimeError: operation not permitted when stream is capturing")
    assert reasons[::2] == ["", ""]
    places = [place for fit in fits for place in fit.recorder.places]
    assert len(places) == len({stream for stream, _ in places}) == len({state for _, state in places}) == len(SEEDS)


def test_a_capture_that_breaks_ends_the_graphs_of_the_same_stream(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fits, streams = break_one(betons, monkeypatch, breaks=1, overlap=False)
    reasons = [fit.graphs.reason for fit in fits]
    assert reasons[0] == "the capture of another training on its stream failed"
    assert reasons[1].startswith("its capture failed (RuntimeError")
    assert reasons[2] == ""  # captured later
    assert {stream for fit in fits for stream, _ in fit.recorder.places} == {streams.default}


def test_no_run_waits_before_the_last_steps_of_all_are_launched(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    streams, order = as_on_cuda(monkeypatch), list[str]()
    with open_views(betons.train, SEEDS) as stream:
        fits = [make_fit(stream, Watched(streams, order)) for _ in SEEDS]
        run_fits(fits, stream)
        steps = len(SEEDS) * fits[0].plan.steps
    assert order == 3 * (["step"] * steps + ["end"] * len(SEEDS))


def test_overlapping_runs_divide_the_time_equally(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_cuda(monkeypatch)
    with open_views(betons.train, SEEDS, batch=4) as stream:
        fits = [make_fit(stream, Losses()) for _ in SEEDS]
        ticks = count()
        monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))  # a second for each look at the clock
        run_fits(fits, stream)
        total = next(ticks)
    seconds = [fit.seconds for fit in fits]
    assert max(seconds) - min(seconds) < 0.1 * total / len(SEEDS)
    assert 0.9 * total < sum(seconds) <= total


def test_a_run_that_is_epochs_ahead_is_not_charged_for_the_others(
    betons: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open_views(betons.train, SEEDS[1:2], batch=4) as stream:
        killed = make_fit(stream, Losses(), checkpoint=tmp_path / "c.pt")
        killed.recorder = Killed(2 * killed.plan.steps + 1)  # in the third of three epochs
        with pytest.raises(KilledError):
            run_fit(killed, stream)
    as_on_cuda(monkeypatch)
    with open_views(betons.train, SEEDS[:2], batch=4) as stream:
        ahead = make_fit(stream, Losses(), checkpoint=tmp_path / "c.pt")
        behind = make_fit(stream, Losses())
        ticks = count()
        monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))  # a second for each look at the clock
        run_fits([behind, ahead], stream)
    assert 0 < ahead.seconds - killed.seconds < 0.4 * behind.seconds


def test_runs_that_do_not_overlap_take_turns_on_one_stream(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [alone(betons.train, seed) for seed in SEEDS[:2]]
    streams = as_on_cuda(monkeypatch)
    with open_views(betons.train, SEEDS[:2]) as stream:
        recorders = [Watched(streams) for _ in expected]
        fits = [make_fit(stream, recorder) for recorder in recorders]
        with streams:
            assert run_fits(fits, stream, overlap=False) == [None, None]
    for fit, other in zip(fits, expected, strict=True):
        assert_equal(fit, other)
    assert {stream for recorder in recorders for stream, _ in recorder.places} == {streams.default}


def no_wait(*_: Any) -> None:
    """Stands for a wait, or the record of a use, that was forgotten."""


def begin_at_once(patch: pytest.MonkeyPatch) -> None:
    wait = Stream.wait_stream
    patch.setattr(Stream, "wait_stream", lambda own, other: wait(own, other) if own.time else None)


BROKEN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no wait for batches": lambda patch: patch.setattr(CudaLane, "receive", no_wait),
    "memory of batches reused": lambda patch: patch.setattr(torch.Tensor, "record_stream", no_wait),
    "no wait at the begin": begin_at_once,
    "no wait at the end": lambda patch: patch.setattr(CudaLane, "join", no_wait),
    "uploads elsewhere": lambda patch: patch.setattr(fit_loop, "_program", lambda _, *given: VisitProgram(*given)),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_work_out_of_order_is_found(betons: Any, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    streams = as_on_cuda(monkeypatch)
    BROKEN[fault](monkeypatch)
    options = {"targets": shifted, "loss": first_target} if "batches" in fault else {}
    with open_views(betons.train, SEEDS[:2]) as stream:
        in_lanes(streams, stream, [make_fit(stream, Losses(), **options) for _ in SEEDS[:2]])
    assert streams.races


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("reuse", [True, False], ids=["its memory is reused", "it is written"])
def test_a_read_of_what_was_there_before_is_watched(monkeypatch: pytest.MonkeyPatch, reuse: bool, waits: bool) -> None:
    streams, images = as_on_cuda(monkeypatch), torch.ones(3)
    lane = CudaLane(CPU)
    with streams:
        with lane.work():
            images.sum()
        if waits:
            lane.join()
        if reuse:
            del images
            torch.ones(3)
        else:
            images.zero_()
    assert bool(streams.races) is not waits


def test_a_lane_that_cannot_be_made_leaves_no_other(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = as_on_cuda(monkeypatch)
    lanes = iter([own_lane, own_lane])
    monkeypatch.setattr(fit_loop, "own_lane", lambda device: next(lanes)(device))
    with open_views(betons.train, SEEDS) as stream:
        fits = [make_fit(stream, Losses()) for _ in SEEDS]
        with streams, pytest.raises(RuntimeError):
            run_fits(fits, stream)
    assert {type(fit.lane) for fit in fits} == {Lane}


def test_the_cpu_has_no_streams() -> None:
    lane = own_lane(CPU)
    assert type(lane) is Lane
    assert not lane.overlaps
    assert isinstance(lane.work(), nullcontext)
