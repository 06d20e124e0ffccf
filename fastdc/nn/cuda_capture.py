"""Capture of CUDA work in a graph. It has not run on a GPU yet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

Run = Callable[[], None]

_BROKEN: list[Any] = []
"""Captures of this process that broke: the graph if torch's allocators may still refer to it, else None."""


class Capture(Protocol):
    """Recorder of runs.

    Attributes:
        usable: whether what was recorded can still be repeated.
    """

    @property
    def usable(self) -> bool: ...

    def __call__(self, run: Run) -> Run:
        """Record a run without running it, and return a function that repeats it."""


class CudaCapture:
    """Capture with one memory pool for all graphs of a training.

    They may share it, because no graph leaves a result in it and no two run at a time.
    """

    def __init__(self) -> None:
        self._pool: Any = None
        self._broken_before = len(_BROKEN)

    @property
    def usable(self) -> bool:
        """Return whether no capture of this process broke since this one was made: it locks their generator."""
        return self._broken_before == len(_BROKEN)

    def __call__(self, run: Run) -> Run:
        """Record a run in a graph; other threads may use CUDA meanwhile, as loaders do.

        Raises:
            RuntimeError: an operation waits for the device, or cannot be captured for another reason.
        """
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # A capture that breaks does not leave its stream, so the present one is entered around it.
        with (
            _mended_after_a_fault(graph, self._pool),
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            run()
        return graph.replay


@contextmanager
def _mended_after_a_fault(graph: Any, pool: Any) -> Iterator[None]:
    """Undo what a capture that breaks in the block leaves behind in some versions of torch."""
    device = torch.cuda.current_device()
    generator = torch.cuda.default_generators[device]
    spare = generator.clone_state()
    try:
        yield
    except BaseException:
        torch.cuda.graph.default_capture_stream = None
        generator.graphsafe_set_state(spare)  # the other state may be locked for a capture without an end
        _BROKEN.append(graph if _left_open(device, pool) else None)
        raise


def _left_open(device: int, pool: Any) -> bool:
    """Return whether a capture still held its memory pool, which is released now; else the graph itself does it."""
    try:
        torch._C._cuda_endAllocateToPool(device, pool)
    except RuntimeError:  # it had ended
        return False
    torch._C._cuda_releasePool(device, pool)
    return True


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Run a block on another stream than the current one, after it and before what follows on it; on CUDA only."""
    if device.type != "cuda":
        yield
        return
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(side):
            yield
    finally:
        torch.cuda.current_stream().wait_stream(side)
