"""Losses and faults of a training's steps, kept on the device, so that no step waits for the host."""

from typing import NamedTuple

import torch


class Fault(NamedTuple):
    """First step of an epoch whose loss or gradient is not finite; its step counts from 1."""

    step: int
    loss: float
    norm: float


class StepLedger:
    """Sums and faults of an epoch's steps.

    Attributes:
        fault: float32 scalar on the device, 1 after a step with a fault. As `found_inf` of a fused optimizer it keeps
            the weights as they were before that step.
    """

    def __init__(self, device: torch.device) -> None:
        self.fault = torch.zeros((), device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._first = torch.zeros(3, dtype=torch.float64, device=device)  # step, loss and gradient norm of the fault

    def add(self, step: int, loss: torch.Tensor, norm: torch.Tensor, samples: int) -> None:
        """Add a step.

        Args:
            step: its number, counted from 1. loss: mean over the batch, a scalar. norm: norm of all gradients.
            samples: samples of the batch.
        """
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        here = torch.stack([torch.full_like(self._loss, step), loss.double(), norm.double()])
        self._first.copy_(torch.where(finite | (self.fault > 0), self._first, here))
        self.fault.copy_(torch.maximum(self.fault, (~finite).float()))
        self._loss += loss.double() * samples

    def read(self) -> tuple[float, Fault | None]:
        """Return the sum of losses over samples, and the first fault; wait for the device once."""
        loss, step, *values = torch.cat([self._loss[None], self._first]).tolist()
        return loss, Fault(int(step), *values) if step else None

    def begin(self, loss_sum: float = 0.0) -> None:
        """Begin an epoch, or continue one from a checkpoint with the sum of its losses."""
        self._loss.fill_(loss_sum)
