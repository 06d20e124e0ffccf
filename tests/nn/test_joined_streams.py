"""Trainings whose streams differ: each ends as it would alone, on the CPU and in lanes of its own."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fastdc.loader import Loader, LoaderRequest, TrainView, ViewRequest, open_stream
from fastdc.nn.cuda_capture import CudaCapture
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import JoinedStreams, run_fit, run_fits
from tests.nn.streams import as_on_cuda
from tests.nn.test_step_graphs import (
    Killed,
    KilledError,
    Losses,
    assert_equal,
    drawn_in_one_operation,
    make_fit,
)

__all__ = ["drawn_in_one_operation"]  # a fixture of every test

ORDERS = (5, 6)
ENGINES = ["device", "resident", "ffcv"]


def open_order(train: Path, order: int, engine: Any) -> Loader:
    view = (ViewRequest(TrainView(28), order),)
    return open_stream(LoaderRequest(train, view, batch_size=32, order_seed=order, shuffle=True, engine=engine))


def alone(train: Path, order: int, engine: Any) -> Fit:
    with open_order(train, order, engine) as loader:
        fit = make_fit(loader, Losses())
        run_fit(fit, loader)
    return fit


@pytest.mark.parametrize("engine", ENGINES)
def test_each_follows_its_own_order(betons: Any, engine: str) -> None:
    expected = [alone(betons.train, order, engine) for order in ORDERS]
    with ExitStack() as stack:
        loaders = [stack.enter_context(open_order(betons.train, order, engine)) for order in ORDERS]
        fits = [make_fit(loader, Losses()) for loader in loaders]
        assert run_fits(fits, JoinedStreams(loaders)) == [None, None]
    for fit, other in zip(fits, expected, strict=True):
        assert_equal(fit, other)
    assert fits[0].recorder.state() != fits[1].recorder.state()


def test_programs_of_several_streams_run_at_once(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [alone(betons.train, order, "device") for order in ORDERS]
    streams = as_on_cuda(monkeypatch)
    with ExitStack() as stack:
        loaders = [stack.enter_context(open_order(betons.train, order, "device")) for order in ORDERS]
        fits = [make_fit(loader, Losses(), CudaCapture()) for loader in loaders]
        monkeypatch.setattr(Loader, "epoch_views", None)  # the batches are drawn on the device only
        with streams:
            assert run_fits(fits, JoinedStreams(loaders)) == [None, None]
            for fit in fits:
                for value in fit.model.parameters():
                    value.detach().clone()
    for fit, other in zip(fits, expected, strict=True):
        assert_equal(fit, other)
        assert fit.graphs is not None
        assert fit.graphs.reason == ""
    assert streams.races == []


@pytest.mark.parametrize("stops", [(6, 99), (99, 6)])
def test_a_kill_between_them_changes_no_result(betons: Any, tmp_path: Path, stops: tuple[int, int]) -> None:
    expected = [alone(betons.train, order, "resident") for order in ORDERS]
    files = [tmp_path / f"{order}.pt" for order in ORDERS]
    with ExitStack() as stack:
        loaders = [stack.enter_context(open_order(betons.train, order, "resident")) for order in ORDERS]
        killed = [
            make_fit(loader, Killed(stop), checkpoint=file)
            for loader, stop, file in zip(loaders, stops, files, strict=True)
        ]
        with pytest.raises(KilledError):
            run_fits(killed, JoinedStreams(loaders))
        fits = [make_fit(loader, Losses(), checkpoint=file) for loader, file in zip(loaders, files, strict=True)]
        assert run_fits(fits, JoinedStreams(loaders)) == [None, None]
    for fit, other in zip(fits, expected, strict=True):
        assert_equal(fit, other)
