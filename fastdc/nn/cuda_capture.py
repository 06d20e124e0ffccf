"""Capture of CUDA work in a graph. It has not run on a GPU yet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

Run = Callable[[], None]
Capture = Callable[[Run], Run]
"""Function that records a run without running it, and returns a function that repeats it."""


class CudaCapture:
    """Capture with one memory pool for all graphs of a training.

    They may share it, because no graph leaves a result in it and no two run at a time.
    """

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, run: Run) -> Run:
        """Record a run, see `Capture`; other threads may use CUDA meanwhile, as loaders do.

        Raises:
            RuntimeError: an operation waits for the device, or cannot be captured for another reason.
        """
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # A capture that breaks does not leave its stream, so the present one is entered around it.
        with (
            _kept_generator(),
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            run()
        return graph.replay


@contextmanager
def _kept_generator() -> Iterator[None]:
    """Give the device's generator a fresh state if the block fails, because a broken capture leaves it unusable."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    spare = generator.clone_state()
    try:
        yield
    except BaseException:
        generator.graphsafe_set_state(spare)
        raise


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Run a block on another stream than the current one, after it and before what follows on it; on CUDA only."""
    if device.type != "cuda":
        yield
        return
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream().wait_stream(side)
