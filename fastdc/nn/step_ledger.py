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
        loss: float64 scalar on the device, the sum of losses over the epoch's samples so far.
    """

    def __init__(self, device: torch.device) -> None:
        self.fault = torch.zeros((), device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self._first = torch.zeros(3, dtype=torch.float64, device=device)  # step, loss and gradient norm of the fault

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Return all state; every method changes these tensors in place."""
        return [self.loss, self.fault, self._step, self._first]

    def add(self, loss: torch.Tensor, norm: torch.Tensor, samples: int) -> None:
        """Add the next step; it does the same operations for every step, so a CUDA graph can repeat it.

        Args:
            loss: mean over the batch, a scalar.
            norm: norm of all gradients.
            samples: samples of the batch.
        """
        self._step += 1
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        here = torch.stack([self._step.double(), loss.double(), norm.double()])
        self._first.copy_(torch.where(finite | (self.fault > 0), self._first, here))
        self.fault.copy_(torch.maximum(self.fault, (~finite).float()))
        self.loss += loss.double() * samples

    def read(self) -> tuple[float, Fault | None]:
        """Return the sum of losses over samples, and the first fault; wait for the device once."""
        loss, step, *values = torch.cat([self.loss[None], self._first]).tolist()
        return loss, Fault(int(step), *values) if step else None

    def begin(self, loss_sum: float = 0.0, steps: int = 0) -> None:
        """Begin an epoch, or continue one from a checkpoint after `steps` steps with the sum of their losses."""
        self.loss.fill_(loss_sum)
        self._step.fill_(steps)
