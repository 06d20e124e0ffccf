"""Input of a training step: a batch's images and targets."""

from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol, Self

import torch

from fastdc.common.transfer import send


class StepInput(Protocol):
    """Images and targets of a step, or the way to make them."""

    @property
    def kind(self) -> Hashable:
        """Return what two inputs have in common if one sequence of operations serves both."""

    @property
    def changed(self) -> list[torch.Tensor]:
        """Return the tensors that `read` changes."""

    def read(self) -> tuple[torch.Tensor, Any]:
        """Return images and targets."""

    def kept(self, device: torch.device) -> Self:
        """Return an input at addresses of its own on `device`, for `fill`."""

    def fill(self, new: Self) -> None:
        """Take the values of another input of this kind."""


class BatchInput(NamedTuple):
    """Images and targets of a batch.

    Attributes:
        images: uint8 [B, S, S, 3] or float32 [B, 3, S, S].
        targets: labels, class shares, or a tuple of tensors and None.
    """

    images: torch.Tensor
    targets: Any

    @property
    def kind(self) -> Hashable:
        """Return shapes and types; see `StepInput`."""
        return tuple((each.shape, each.dtype, each.stride()) for each in _leaves(self))

    @property
    def changed(self) -> list[torch.Tensor]:
        """See `StepInput`."""
        return []

    def read(self) -> tuple[torch.Tensor, Any]:
        """See `StepInput`."""
        return self.images, self.targets

    def kept(self, device: torch.device) -> "BatchInput":
        """See `StepInput`."""
        return BatchInput(_empty(self.images, device), _empty(self.targets, device))

    def fill(self, new: "BatchInput") -> None:
        """See `StepInput`; the copies do not wait for the device."""
        for tensor, values in zip(_leaves(self), _leaves(new), strict=True):
            tensor.copy_(send(values, tensor.device))


def _leaves(value: Any) -> list[torch.Tensor]:
    """Return the tensors of nested tuples, in order."""
    if isinstance(value, tuple):
        return [leaf for each in value for leaf in _leaves(each)]
    return [] if value is None else [value]


def _empty(value: Any, device: torch.device) -> Any:
    """Return nested tuples with new tensors."""
    if isinstance(value, tuple):
        made = [_empty(each, device) for each in value]
        return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
    return None if value is None else torch.empty_like(value, device=device)
