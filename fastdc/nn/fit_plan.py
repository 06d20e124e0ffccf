"""What a training follows: its plan, and the recorder that watches it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastdc.loader import Batch
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS

Loss = Callable[[torch.Tensor, Any], torch.Tensor]
Targets = Callable[[torch.Tensor, torch.Tensor, int, int], tuple[torch.Tensor, Any]]


class Recorder:
    """Callbacks of a training, which do nothing here; the observer's log and the evaluation's curve implement them."""

    def step(self, samples: int) -> None:
        """Count a step of `samples` samples; its loss may still be unknown."""

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        """Record a batch after its loss is known to be finite and before the weights change.

        A recorder with this method keeps every step on the host's schedule: none is replayed as a CUDA graph.

        Args:
            logits: float32 [B, C], detached.
        """

    @property
    def reads_batches(self) -> bool:
        """Return whether this recorder has a `batch` method of its own."""
        return type(self).batch is not Recorder.batch

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        """Record the end of an epoch.

        Args:
            epoch: counted from 0.
            loss: mean over the epoch's samples.
            lr: learning rate of its first step.
        """

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, in the form that `restore` takes."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""


@dataclass(frozen=True)
class FitPlan:
    """Schedule, loss and checkpointing of one training.

    Attributes:
        epochs: number of epochs; they are counted from 0.
        steps: steps per epoch, see `steps_per_epoch`.
        learning_rate: (epoch, step within it, steps per epoch) -> learning rate of that step.
        loss: (logits [B, C], labels [B] or the targets from `targets`) -> scalar, mean over the batch.
        seed: training seed of dropout and other random layers.
        checkpoint: file for resuming, or None.
        identity: key of the run; a checkpoint of another run is refused.
        checkpoint_seconds: time between two checkpoints, checked after every step.
        checkpoint_epochs: whether to save after every epoch too, for a recorder that cannot go back further.
        targets: (images float32 [B, 3, S, S], labels int64 [B], epoch, step within it) -> the network's input images
            and the targets of `loss`; None passes images and labels on unchanged. It must depend on its arguments
            alone, or a resumed run would give other results.
    """

    epochs: int
    steps: int
    learning_rate: Callable[[int, int, int], float]
    loss: Loss
    seed: int
    checkpoint: Path | None = None
    identity: str = ""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    checkpoint_epochs: bool = False
    targets: Targets | None = None
