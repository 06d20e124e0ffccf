"""Capture of CUDA work in a graph. It has not run on a GPU yet."""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

import torch

Run = Callable[[], None]

_STREAMS = 32
"""Streams that torch has for a device; after the last it hands out the first again."""
_KNOWN: defaultdict[tuple[int, type], list[Any]] = defaultdict(list)
"""For each device and kind of owner, the streams that owners have had."""
_LENT: set[Any] = set()
"""Streams that have an owner."""

_CAPTURES: "defaultdict[Any, weakref.WeakSet[CudaCapture]]" = defaultdict(weakref.WeakSet)
"""For each stream of trainings, their captures, which share a state of the generator."""
_LEFT_OPEN: list[Any] = []
"""Graphs whose capture broke, and to which torch's allocators may still refer."""


def stream_left() -> bool:
    """Return whether `borrow_stream` has a stream."""
    return len(_LENT) < _STREAMS


def borrow_stream(owner: object) -> "tuple[Any, weakref.finalize[..., Any]]":
    """Return a stream of the present device for `owner` alone, and the finalizer that frees it with `owner`.

    A stream that an owner of the same type had before comes first: cuBLAS keeps a workspace for each stream.

    Raises:
        RuntimeError: all are in use.
    """
    if not stream_left():
        raise RuntimeError(f"all {_STREAMS} CUDA streams of torch are in use")
    known = _KNOWN[torch.cuda.current_device(), type(owner)]
    stream = next((each for each in known if each not in _LENT), None)
    if stream is None:
        stream = next(each for each in iter(torch.cuda.Stream, None) if each not in _LENT)
        known.append(stream)
    _LENT.add(stream)
    return stream, weakref.finalize(owner, _LENT.discard, stream)


class Capture(Protocol):
    """Recorder of runs.

    Attributes:
        usable: whether what was recorded can still be repeated.
    """

    usable: bool

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
        self.usable = True
        self._stream, self._return = borrow_stream(self)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Run a block on the captures' stream, so that its libraries have their workspaces before a capture."""
        _CAPTURES[torch.cuda.current_stream()].add(self)
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
        graph: Any = torch.cuda.CUDAGraph()
        # A capture that breaks does not leave its stream, so the present one is entered around it.
        with (
            self._mended_after_a_fault(graph),
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            run()
        # Some versions of torch write the generator's numbers on the capture's stream; a replay writes them again.
        torch.cuda.current_stream().wait_stream(self._stream)
        graph.capture = self  # keeps the stream as long as the graph, whose end may free the workspaces there
        return graph.replay  # type: ignore[no-any-return]

    @contextmanager
    def _mended_after_a_fault(self, graph: Any) -> Iterator[None]:
        """Undo what a capture that breaks in the block leaves behind in some versions of torch.

        It locks the generator's state, so graphs that use this state end; other lanes have states of their own. A
        fault of the device itself ends every training, because each later launch raises it again.
        """
        device = torch.cuda.current_device()
        generator = torch.cuda.default_generators[device]
        spare = generator.clone_state()
        try:
            yield
        except BaseException:
            if _is_capturing(self._stream):
                self._return.detach()  # nothing else can use it
            generator.graphsafe_set_state(spare)  # the other state may be locked for a capture without an end
            with suppress(RuntimeError):
                graph.reset()  # newer versions end the use of the pool here, or else when the graph is freed
            if _left_open(device, self._pool):
                _LEFT_OPEN.append(graph)
            for each in _CAPTURES[torch.cuda.current_stream()]:
                each.usable = False
            raise


def _is_capturing(stream: Any) -> bool:
    """Return whether a stream is still in a capture, or the device no longer answers."""
    try:
        with torch.cuda.stream(stream):
            return torch.cuda.is_current_stream_capturing()
    except RuntimeError:
        return True


def _left_open(device: int, pool: Any) -> bool:
    """Return whether a capture still held its memory pool, which is released now; else the graph itself does it."""
    try:
        torch._C._cuda_endAllocateToPool(device, pool)
    except RuntimeError:  # it had ended
        return False
    torch._C._cuda_releasePool(device, pool)
    return True
