"""Capture of CUDA work in a graph. It has not run on a GPU yet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch

Run = Callable[[], None]


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

    _failures = 0
    """Captures of this process that broke; each made the generator of all graphs before it unusable."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._before = CudaCapture._failures

    @property
    def usable(self) -> bool:
        """Return whether no capture of this process broke since this one was made."""
        return self._before == CudaCapture._failures

    def __call__(self, run: Run) -> Run:
        """Record a run in a graph; other threads may use CUDA meanwhile, as loaders do.

        Raises:
            RuntimeError: an operation waits for the device, or cannot be captured for another reason.
        """
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # A capture that breaks does not leave its stream, so the present one is entered around it.
        with (
            _mended_after_a_fault(self._pool),
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            run()
        return graph.replay


@contextmanager
def _mended_after_a_fault(pool: Any) -> Iterator[None]:
    """Undo what a capture that breaks in the block leaves behind in some versions of torch."""
    device = torch.cuda.current_device()
    generator = torch.cuda.default_generators[device]
    spare = generator.clone_state()
    try:
        yield
    except BaseException:
        CudaCapture._failures += 1
        generator.graphsafe_set_state(spare)  # the other state may be locked for a capture without an end
        with suppress(RuntimeError):  # raised if the allocator has left the pool already
            torch._C._cuda_endAllocateToPool(device, pool)
        raise


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
