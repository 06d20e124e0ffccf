"""CUDA's streams on the CPU: operations run at once, and those that no wait puts in order are found.

A stream counts its operations, and knows up to which one of every other stream its next operation follows. An operation
must follow the last writing of what it reads, and every use of what it writes. Memory belongs to the stream on which it
was made. Once it is freed, the next operation there that needs memory may get it, and so must follow every use of it,
unless `record_stream` has named the other stream.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastdc.loader.engines.device import _RequestDrawer
from fastdc.nn import cuda_capture, fit, fit_loop
from fastdc.nn.device import Compute
from fastdc.nn.lane import CudaLane
from tests.nn.tape import Tape, tensors


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


class Generator:
    """The device's default generator, whose state is an object that can be exchanged."""

    def __init__(self, state: object) -> None:
        self.state = state

    def clone_state(self) -> "Generator":
        return Generator(object())

    def graphsafe_get_state(self) -> "Generator":
        return Generator(self.state)

    def graphsafe_set_state(self, other: "Generator") -> None:
        self.state = other.state


class Streams(TorchDispatchMode):
    """Mode that watches every operation of a block. Outside of `on_host`, all tensors count as the device's."""

    def __init__(self) -> None:
        super().__init__()
        self.default = self.current = Stream()
        self.default.time = 1  # whatever was made before
        self.generator = Generator(object())
        self.races: list[str] = []
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
    def on_host(self) -> Iterator[None]:
        self._host += 1
        try:
            yield
        finally:
            self._host -= 1

    def record(self, tensor: torch.Tensor, stream: Stream) -> None:
        memory = self._memory.get(tensor.untyped_storage()._cdata)
        if memory is not None:
            memory.recorded.add(stream)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if not self._host:
            self._note(func, args, kwargs, found)
        return found

    def _note(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        stream, name = self.current, func.name()
        stream.time += 1
        arguments = func._schema.arguments
        given = dict(zip((each.name for each in arguments), args, strict=False)) | kwargs
        inside = {each.untyped_storage()._cdata: each for each in tensors(given)}
        changed = [given.get(each.name) for each in arguments if each.alias_info and each.alias_info.is_write]
        writes = {each.untyped_storage()._cdata for each in tensors(changed)} if changed else set()
        for storage in (
            writes - self._memory.keys()
        ):  # what no operation has written comes from before, or from the host
            self._keep(inside[storage], Memory(self.default, (self.default, 1, "what was before")))
        for storage in inside.keys() & self._memory.keys():
            self._use(self._memory[storage], stream, name, storage in writes)
        for tensor in tensors(found):
            if tensor.untyped_storage()._cdata not in inside:
                self._check(f"memory for {name}", stream, stream.freed)
                stream.freed.clear()
                self._keep(tensor, Memory(stream, (stream, stream.time, name)))

    def _keep(self, tensor: torch.Tensor, memory: Memory) -> None:
        storage = tensor.untyped_storage()
        self._memory[storage._cdata] = memory
        weakref.finalize(storage, self._free, storage._cdata).atexit = False

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
    patch.setattr(cuda_capture, "_FREE_STREAMS", {0: []})
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
