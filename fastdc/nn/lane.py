"""What a training owns while others train in the same process: its random state and, on CUDA, a stream.

It has not run on a GPU yet. There the trainings run at the same time. All that a training computes is issued to its
own stream, whose memory torch reuses in the order of that stream. What is made elsewhere is waited for.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from fastdc.nn.cuda_capture import borrow_stream
from fastdc.nn.training_state import random_states, set_random_states


class Lane:
    """Lane of a training on the CPU, where trainings take turns, or of one that is alone on its device.

    Attributes:
        overlaps: whether the work of a turn goes on beside that of other lanes after the turn.
    """

    overlaps = False

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._state: Any = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Run a block with this training's random state, as work of its lane; afterwards restore what it found."""
        others = self._installed()
        if self._state is not None:
            self._install(self._state)
        try:
            with self.work():
                yield
        finally:
            self._state = self._installed()
            self._install(others)

    def _installed(self) -> Any:
        return random_states(self._device)

    def _install(self, state: Any) -> None:
        set_random_states(state)

    def work(self) -> AbstractContextManager[Any]:
        """Return a context in which the device's work belongs to this lane; the random state is not changed."""
        return nullcontext()

    def receive(self, tensors: Iterable[torch.Tensor]) -> None:
        """Let this lane use tensors made outside of it; call it outside of a turn."""

    def join(self) -> None:
        """Let all later work outside of lanes follow the work of this one."""


class CudaLane(Lane):
    """Lane on the present CUDA device, whose work begins after all that was issued outside of lanes so far.

    A generator's state counts what was drawn. In torch before 2.13 it also has tensors on the device. A replayed graph
    writes seed and offset there before its kernels read them. Two graphs in flight must therefore not share a state.

    Steps in fp16, or of an optimizer that is not fused, do not overlap: at the end of each the host reads its loss.
    """

    overlaps = True

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._generator = torch.cuda.default_generators[torch.cuda.current_device()]
        self._state = self._generator.clone_state(), torch.default_generator.get_state()
        self._stream, _ = borrow_stream(self)
        self._stream.wait_stream(torch.cuda.current_stream())

    def _installed(self) -> Any:
        # Not always the state of the turn's start: a capture that breaks leaves another one (`cuda_capture`).
        return self._generator.graphsafe_get_state(), torch.default_generator.get_state()

    def _install(self, state: Any) -> None:
        self._generator.graphsafe_set_state(state[0])
        torch.default_generator.set_state(state[1])

    def work(self) -> AbstractContextManager[Any]:
        """See `Lane`."""
        return torch.cuda.stream(self._stream)

    def receive(self, tensors: Iterable[torch.Tensor]) -> None:
        """See `Lane`; the host does not wait."""
        on_device = [each for each in tensors if each.is_cuda]
        if on_device:
            self._stream.wait_stream(torch.cuda.current_stream())
        for each in on_device:
            each.record_stream(self._stream)  # or their memory would be reused before this lane has read it

    def join(self) -> None:
        """See `Lane`; the host does not wait."""
        torch.cuda.current_stream().wait_stream(self._stream)


def own_lane(device: torch.device) -> Lane:
    """Return a new lane for one of several trainings on a device."""
    return CudaLane(device) if device.type == "cuda" else Lane(device)
