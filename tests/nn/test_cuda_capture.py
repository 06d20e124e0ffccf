"""Streams that trainings and captures borrow, imitated on the CPU."""

import gc
from itertools import cycle

import pytest
import torch

from fastdc.nn.cuda_capture import CudaCapture
from fastdc.nn.fit_plan import Recorder
from fastdc.nn.lane import CudaLane
from fastdc.nn.step_graphs import why_no_graphs
from fastdc.nn.step_ledger import StepLedger
from tests.nn.streams import Stream, as_on_cuda

CPU = torch.device("cpu")


def test_no_two_share_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_cuda(monkeypatch)
    pool = cycle([Stream() for _ in range(32)])
    monkeypatch.setattr(torch.cuda, "Stream", lambda: next(pool))  # as torch gives them
    lane, captures = CudaLane(CPU), [CudaCapture()]
    used: dict[type, set[Stream]] = {CudaLane: set(), CudaCapture: set()}
    for number in range(40):  # each kind uses again what it had
        pair = [CudaLane(CPU), CudaCapture()] if number % 2 else [CudaCapture(), CudaLane(CPU)]
        for each in pair:
            used[type(each)].add(each._stream)
        del pair, each
    assert [len(each) for each in used.values()] == [1, 1]
    captures += [CudaCapture() for _ in range(30)]
    assert len({each._stream for each in [lane, *captures]}) == 32
    fused = torch.optim.SGD([torch.zeros(1)], fused=True)
    reason = why_no_graphs(torch.device("cuda"), fused, StepLedger(CPU), Recorder())
    assert reason == "every CUDA stream of torch is in use"
    with pytest.raises(RuntimeError, match="all 32 CUDA streams of torch are in use"):
        CudaLane(CPU)
    freed = captures.pop()._stream
    assert CudaLane(CPU)._stream is freed  # no other is left


def test_a_graph_keeps_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_cuda(monkeypatch)
    capture = CudaCapture()
    stream, replay = capture._stream, capture(lambda: None)
    del capture
    assert CudaCapture()._stream is not stream
    del replay
    assert CudaCapture()._stream is stream


@pytest.mark.parametrize("still", [True, False])
def test_a_stream_that_is_still_in_a_capture_is_not_used_again(monkeypatch: pytest.MonkeyPatch, still: bool) -> None:
    as_on_cuda(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: still)
    capture = CudaCapture()
    stream = capture._stream
    with pytest.raises(ZeroDivisionError):
        capture(lambda: print(1 / 0))
    del capture
    gc.collect()  # the error's frames
    assert (CudaCapture()._stream is stream) is not still
