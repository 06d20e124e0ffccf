"""Everything that a training step changes, copied and put back at the same addresses."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import nn


class Copied(NamedTuple):
    """Copy of a training's state.

    Attributes:
        tensors: for each tensor of the state, its copy.
        random: states of the random generators, see `random_states`.
    """

    tensors: dict[torch.Tensor, torch.Tensor]
    random: list[torch.Tensor]


class Change(NamedTuple):
    """Difference between two results of one step, as a share of what the step changed; 0 if they are equal."""

    weights: float
    buffers: float


class TrainingState:
    """State of a training between two steps.

    Args:
        others: tensors that a step changes besides those of the network and its optimizer.
        device: device of all tensors.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, others: Sequence[torch.Tensor], device: torch.device
    ) -> None:
        self._model, self._optimizer, self._others, self._device = model, optimizer, others, device

    def _tensors(self) -> list[torch.Tensor]:
        moments = [each for state in self._optimizer.state.values() for each in state.values()]
        return [
            *self._model.parameters(),
            *self._model.buffers(),
            *(each for each in moments if isinstance(each, torch.Tensor)),
            *self._others,
        ]

    def copy(self) -> Copied:
        """Return a copy."""
        copies = {each: each.detach().clone() for each in self._tensors()}
        return Copied(copies, random_states(self._device))

    @torch.no_grad()
    def put_back(self, copied: Copied) -> None:
        """Write a copy to the tensors; the optimizer's state that was made since becomes 0, as it begins."""
        for tensor in self._tensors():
            if tensor in copied.tensors:
                tensor.copy_(copied.tensors[tensor])
            else:
                tensor.zero_()
        set_random_states(copied.random)

    def change(self, before: Copied, first: Copied, second: Copied) -> Change:
        """Return how two results of a step from `before` differ."""
        tensors = before.tensors, first.tensors, second.tensors
        return Change(
            *(
                _share([[each[tensor] for each in tensors] for tensor in group])
                for group in (self._model.parameters(), self._model.buffers())
            )
        )


def _share(tensors: Iterable[Sequence[torch.Tensor]]) -> float:
    """Return |first - second| / |first - before| over tensors [before, first, second]."""
    different = changed = 0.0
    for before, first, second in tensors:
        same = (first == second) | (first.isnan() & second.isnan())
        different += float(torch.where(same, 0.0, first.double() - second.double()).square().sum())
        changed += float((first.double() - before.double()).square().sum())
    if different == 0:
        return 0.0
    return math.sqrt(different / changed) if changed > 0 else math.inf


def random_states(device: torch.device) -> list[torch.Tensor]:
    """Return the states of torch's generators: the CPU's, and that of a CUDA device."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if device.type == "cuda" else states


def set_random_states(states: Sequence[torch.Tensor]) -> None:
    """Set the states of torch's generators, as `random_states` returns them."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)
