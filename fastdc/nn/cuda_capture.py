"""Capture of CUDA work in a graph. It has not run on a GPU yet."""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

import torch

Run = Callable[[], None]

_BROKEN: list[Any] = []
"""Captures of this process that broke: the graph if torch's allocators may still refer to it, else None."""

_FREE_STREAMS: defaultdict[int, list[Any]] = defaultdict(list)
"""For each device, streams of trainings that have ended."""


def borrow_stream(owner: object) -> "tuple[Any, weakref.finalize[..., Any]]":
    """Return a stream of the present device for `owner`, and the finalizer that takes it back when `owner` is freed.

    Streams are used again, or the workspaces that cuBLAS has for each of them would add up.
    """
    free = _FREE_STREAMS[torch.cuda.current_device()]
    stream = free.pop() if free else torch.cuda.Stream()  # type: ignore[no-untyped-call]
    return stream, weakref.finalize(owner, free.append, stream)


class Capture(Protocol):
    """Recorder of runs.

    Attributes:
        usable: whether what was recorded can still be repeated.
    """

    @property
    def usable(self) -> bool: ...

    def __call__(self, run: Run) -> Run:
        """Record a run without running it, and return a function that repeats it."""

    def apart(self) -> AbstractContextManager[None]:
        """Return a context for runs before a capture; it keeps their order among the runs outside."""


class CudaCapture:
    """Capture with a stream and a memory pool of its own for all graphs of a training.

    They may share both, because no graph leaves a result in the pool and no two run at a time. Another training needs
    another stream. cuBLAS has a workspace for each, which some versions of torch free with any graph captured there.
    """

    def __init__(self) -> None:
        self._pool: Any = None
        self._broken_before = len(_BROKEN)
        self._stream, self._return = borrow_stream(self)

    @property
    def usable(self) -> bool:
        """Return whether no capture of this process broke since this one was made: it locks their generator."""
        return self._broken_before == len(_BROKEN)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Run a block on the captures' stream, so that its libraries have their workspaces before a capture."""
        self._stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            torch.cuda.current_stream().wait_stream(self._stream)

    def __call__(self, run: Run) -> Run:
        """Record a run in a graph; other threads may use CUDA meanwhile, as loaders do.

        Raises:
            RuntimeError: an operation waits for the device, or cannot be captured for another reason.
        """
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # A capture that breaks does not leave its stream, so the present one is entered around it.
        with (
            self._mended_after_a_fault(graph),
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            run()
        # Some versions of torch write the generator's numbers on the capture's stream; a replay writes them again.
        torch.cuda.current_stream().wait_stream(self._stream)
        return graph.replay

    @contextmanager
    def _mended_after_a_fault(self, graph: Any) -> Iterator[None]:
        """Undo what a capture that breaks in the block leaves behind in some versions of torch."""
        device = torch.cuda.current_device()
        generator = torch.cuda.default_generators[device]
        spare = generator.clone_state()
        try:
            yield
        except BaseException:
            self._return.detach()  # its stream may still be in the capture
            generator.graphsafe_set_state(spare)  # the other state may be locked for a capture without an end
            with suppress(RuntimeError):
                graph.reset()  # newer versions end the use of the pool here, or else when the graph is freed
            _BROKEN.append(graph if _left_open(device, self._pool) else None)
            raise


def _left_open(device: int, pool: Any) -> bool:
    """Return whether a capture still held its memory pool, which is released now; else the graph itself does it."""
    try:
        torch._C._cuda_endAllocateToPool(device, pool)
    except RuntimeError:  # it had ended
        return False
    torch._C._cuda_releasePool(device, pool)
    return True
