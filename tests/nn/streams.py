"""CUDA's streams on the CPU: operations run at once, and those that no wait puts in order are found.

A stream counts its operations, and knows up to which one of every other stream its next operation follows. An operation
must follow the last writing of what it reads, and every use of what it writes. Memory belongs to the stream on which it
was made. Once it is freed, the next operation there that needs memory may get it, and so must follow every use of it,
unless `record_stream` has named the other stream.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakSet, finalize

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastdc.loader.engines.device import _RequestDrawer
from fastdc.nn import cuda_capture, fit, fit_loop
from fastdc.nn.device import Compute
from fastdc.nn.lane import CudaLane
from tests.nn.tape import Tape, recorded, tensors


class Stream:
    """A stream: what its next operation follows of every other one (`seen`), and uses of its free memory (`freed`)."""

    def __init__(self) -> None:
        self.time = 0
        self.seen: dict[Stream, int] = {}
        self.freed: list[tuple[Stream, int, str]] = []

    def wait_stream(self, other: "Stream") -> None:
        for stream, time in [*other.seen.items(), (other, other.time)]:
            self.seen[stream] = max(time, self.seen.get(stream, 0))

    def follows(self, other: "Stream", time: int) -> bool:
        return other is self or self.seen.get(other, 0) >= time


@dataclass
class Memory:
    """A storage: the stream on which it was made, its last writing, and its last use by each stream."""

    owner: Stream
    written: tuple[Stream, int, str]
    uses: dict[Stream, tuple[int, str]] = field(default_factory=dict)
    recorded: set[Stream] = field(default_factory=set)


class State:
    """State of a generator; `locked` for a capture that broke, it gives no numbers."""

    locked = False

    def check(self) -> None:
        if self.locked:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")


class Generator:
    """The device's default generator, whose state is an object that can be exchanged."""

    def __init__(self, state: State) -> None:
        self.state = state

    def clone_state(self) -> "Generator":
        return Generator(State())

    def graphsafe_get_state(self) -> "Generator":
        return Generator(self.state)

    def graphsafe_set_state(self, other: "Generator") -> None:
        self.state = other.state


class Graph:
    """CUDA's graph: a tape, and the generator's state that its replays draw from."""

    def __init__(self) -> None:
        self.state, self.tape = State(), Tape()

    def replay(self) -> None:
        self.state.check()
        self.tape.replay()

    def reset(self) -> None:
        """As torch before 2.13, it does not end the use of the memory pool."""


class Streams(TorchDispatchMode):
    """Mode that watches every operation of a block. Outside of `on_host`, all tensors count as the device's."""

    def __init__(self) -> None:
        super().__init__()
        self.default = self.current = Stream()
        self.default.time = 1  # whatever was made before
        self.host = Stream()
        self.generator = Generator(State())
        self.races: list[str] = []
        self.open: set[object] = set()
        self._host = 0
        self._memory: dict[int, Memory] = {}

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def capture(self, graph: Graph, pool: object, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        """Record a block; if it breaks, leave behind what torch before 2.13 does."""
        graph.state = self.generator.state
        graph.state.check()
        self.open.add(pool)
        try:
            with recorded() as graph.tape:
                yield
        except BaseException:
            self.current, graph.state.locked = stream, True
            raise
        self.open.remove(pool)

    def end_pool(self, _device: int, pool: object) -> None:
        if pool not in self.open:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.open.remove(pool)

    @contextmanager
    def on_host(self) -> Iterator[None]:
        self._host += 1
        try:
            yield
        finally:
            self._host -= 1

    def record(self, tensor: torch.Tensor, stream: Stream) -> None:
        self._known(tensor).recorded.add(stream)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if self._host:
            for tensor in tensors(found):
                if tensor.untyped_storage()._cdata not in self._memory:
                    self._keep(tensor, Memory(self.host, (self.host, 0, "the host")))
        else:
            self._note(func, args, kwargs, found)
        return found

    def _note(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        stream, name = self.current, func.name()
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.generator.state.check()
        stream.time += 1
        arguments = func._schema.arguments
        given = dict(zip((each.name for each in arguments), args, strict=False)) | kwargs
        inside = {each.untyped_storage()._cdata: each for each in tensors(given)}
        changed = [given.get(each.name) for each in arguments if each.alias_info and each.alias_info.is_write]
        writes = {each.untyped_storage()._cdata for each in tensors(changed)} if changed else set()
        for storage, each in inside.items():
            self._use(self._known(each), stream, name, storage in writes)
        for tensor in tensors(found):
            if tensor.untyped_storage()._cdata not in inside:
                self._check(f"memory for {name}", stream, stream.freed)
                stream.freed.clear()
                self._keep(tensor, Memory(stream, (stream, stream.time, name)))

    def _known(self, tensor: torch.Tensor) -> Memory:
        """The memory of a tensor; what no operation has made comes from before, or from the host."""
        if tensor.untyped_storage()._cdata not in self._memory:
            self._keep(tensor, Memory(self.default, (self.default, 1, "what was before")))
        return self._memory[tensor.untyped_storage()._cdata]

    def _keep(self, tensor: torch.Tensor, memory: Memory) -> None:
        storage = tensor.untyped_storage()
        self._memory[storage._cdata] = memory
        finalize(storage, self._free, storage._cdata).atexit = False

    def _use(self, memory: Memory, stream: Stream, name: str, writes: bool) -> None:
        self._check(name, stream, [memory.written, *((other, *use) for other, use in memory.uses.items() if writes)])
        memory.uses[stream] = stream.time, name
        if writes:
            memory.written = stream, stream.time, name

    def _check(self, name: str, stream: Stream, before: Iterable[tuple[Stream, int, str]]) -> None:
        self.races += [f"{name} after {what}" for other, time, what in before if not stream.follows(other, time)]

    def _free(self, storage: int) -> None:
        memory = self._memory.pop(storage)
        uses = [(stream, *use) for stream, use in memory.uses.items() if stream not in memory.recorded]
        memory.owner.freed += uses


def as_on_cuda(patch: pytest.MonkeyPatch) -> Streams:
    """Let trainings on the CPU run in the lanes of a GPU, with these streams."""
    streams = Streams()
    patch.setattr(torch.cuda, "Stream", Stream)
    patch.setattr(torch.cuda, "current_stream", lambda: streams.current)
    patch.setattr(torch.cuda, "stream", streams.on)
    patch.setattr(torch.cuda, "current_device", lambda: 0)
    patch.setattr(torch.cuda, "default_generators", (streams.generator,))
    patch.setattr(torch.Tensor, "is_cuda", property(lambda _: True))
    patch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: streams.record(tensor, stream))
    patch.setattr(torch.cuda, "CUDAGraph", Graph)
    patch.setattr(torch.cuda, "graph", streams.capture)
    patch.setattr(torch.cuda, "graph_pool_handle", object)
    patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    patch.setattr(torch._C, "_cuda_endAllocateToPool", streams.end_pool, raising=False)
    patch.setattr(torch._C, "_cuda_releasePool", lambda _device, _pool: None, raising=False)
    for name, empty in (("_KNOWN", defaultdict(list)), ("_LENT", set()), ("_CAPTURES", defaultdict(WeakSet))):
        patch.setattr(cuda_capture, name, empty)
    patch.setattr(fit_loop, "own_lane", CudaLane)
    patch.setattr(_RequestDrawer, "visits", _hosted(streams, _RequestDrawer.visits))
    patch.setattr(fit, "load_checkpoint", _hosted(streams, fit.load_checkpoint))
    for name in ("_keep", "put_back"):  # a capture on a GPU changes nothing that it would have to put back
        patch.setattr(Tape, name, _hosted(streams, getattr(Tape, name)))
    # Its numbers are computed on the host, and their upload has ended when it returns.
    made = cached_property(_hosted(streams, Compute._normalisation.func))
    made.__set_name__(Compute, "_normalisation")
    patch.setattr(Compute, "_normalisation", made)
    return streams


def _hosted(streams: Streams, work: Callable[..., Any]) -> Callable[..., Any]:
    def hosted(*args: Any) -> Any:
        with streams.on_host():
            return work(*args)

    return hosted
