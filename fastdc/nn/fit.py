"""The training loop: mixed precision, non-finite losses caught before they reach the weights, bit-equal resume."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from fastdc.errors import DivergedError
from fastdc.loader import Batch, EpochLoader
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS, load_checkpoint, save_checkpoint
from fastdc.nn.device import Compute
from fastdc.progress import Progress
from fastdc.seeding import derive_seed

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Recorder(Protocol):
    """What listens to a training: the observer's log, or the evaluation's curve."""

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        """After the forward pass of every batch; `logits` [B, C] are detached."""

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        """After the last step of `epoch` (counted from 0): mean loss over samples, learning rate of its first step."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on; restored by `restore`."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the state of a checkpoint."""


@dataclass(frozen=True)
class FitPlan:
    """How to train.

    Attributes:
        epochs: train the epochs 0..epochs-1.
        learning_rate: (epoch, step within it, steps per epoch) -> learning rate of that step.
        loss: (logits [B, C], labels [B]) -> scalar, mean over the batch.
        seed: training seed; dropout and the like draw from it.
        checkpoint: file for resuming, or None.
        identity: key of the run; a checkpoint of another run is refused.
        checkpoint_seconds: longest time between two checkpoints.
    """

    epochs: int
    learning_rate: Callable[[int, int, int], float]
    loss: Loss
    seed: int
    checkpoint: Path | None = None
    identity: str = ""
    checkpoint_seconds: float = CHECKPOINT_SECONDS


class Fit:
    """One training run; `run` does all of it, or what a checkpoint left to do."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: EpochLoader,
        compute: Compute,
        plan: FitPlan,
        recorder: Recorder,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.optimizer, self.loader = model, optimizer, loader
        self.compute, self.plan, self.recorder, self.progress = compute, plan, recorder, progress
        self.scaler = compute.scaler()
        self.epoch, self.batches_done, self.loss_sum, self.samples, self.seconds = 0, 0, 0.0, 0, 0.0
        self._clock = time.monotonic()
        self._last_save = self._clock

    def run(self) -> None:
        """Train to the end of the plan.

        Raises:
            DivergedError: a loss or gradient is NaN or infinite; the weights are those before that step.
        """
        self._resume()
        self._clock = self._last_save = time.monotonic()
        while self.epoch < self.plan.epochs:
            self._run_epoch()
        self._save(force=self.plan.checkpoint is not None)

    def elapsed(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self.seconds + time.monotonic() - self._clock

    def _run_epoch(self) -> None:
        self.model.train()
        if self.batches_done == 0:
            torch.manual_seed(derive_seed(self.plan.seed, "epoch", epoch=self.epoch))
        steps = steps_per_epoch(self.loader)
        for batch in join_lone_sample(self.loader.epoch(self.epoch, self.batches_done)):
            lr = self.plan.learning_rate(self.epoch, self.batches_done, steps)
            loss = self._step(batch, lr)
            self.loss_sum += loss * len(batch.labels)
            self.samples += len(batch.labels)
            self.batches_done += 1
            if self.progress is not None:
                self.progress.advance(1, f"epoch {self.epoch + 1}/{self.plan.epochs}, loss {loss:.3f}")
            if self.batches_done < steps:
                self._save()
        mean, lr = self.loss_sum / self.samples, self.plan.learning_rate(self.epoch, 0, steps)
        self.recorder.epoch_end(self.epoch, mean, lr)
        self.epoch, self.batches_done, self.loss_sum, self.samples = self.epoch + 1, 0, 0.0, 0
        self._save()

    def _step(self, batch: Batch, lr: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        with self.compute.autocast():
            logits = self.model(self.compute.images(batch.images))
            loss = self.plan.loss(logits.float(), batch.labels.to(self.compute.device, non_blocking=True))
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        value = self._check_finite(loss.detach(), lr)
        self.recorder.batch(batch, logits.detach())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value

    def _check_finite(self, loss: torch.Tensor, lr: float) -> float:
        """The loss as a number, once it and the gradients are known to be finite (one device read for both).

        Raises:
            DivergedError: they are not. Infinite gradients of fp16 are the scaler's business: it skips the step.
        """
        norm = torch.zeros_like(loss)
        if not self.scaler.is_enabled():
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients).to(loss)
        value, gradient = torch.stack([loss, norm]).tolist()
        if not (math.isfinite(value) and math.isfinite(gradient)):
            what = f"loss is {value}" if not math.isfinite(value) else f"gradient norm is {gradient}"
            raise DivergedError(
                f"{what} in epoch {self.epoch + 1}, step {self.batches_done + 1}, at learning rate {lr:.3g}; "
                "lower lr or use precision fp32"
            )
        return float(value)

    def _save(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.plan.checkpoint is None or not (force or now - self._last_save >= self.plan.checkpoint_seconds):
            return
        self.seconds += now - self._clock
        self._clock = self._last_save = now
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": torch.get_rng_state(),
            "device_generator": torch.cuda.get_rng_state() if self.compute.device.type == "cuda" else None,
            "place": [self.epoch, self.batches_done, self.samples],
            "sums": [self.loss_sum, self.seconds],
            "recorder": self.recorder.state(),
        }
        save_checkpoint(self.plan.checkpoint, self.plan.identity, state)

    def _resume(self) -> None:
        state = load_checkpoint(self.plan.checkpoint, self.plan.identity) if self.plan.checkpoint else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.batches_done, self.samples = state["place"]
        self.loss_sum, self.seconds = state["sums"]
        self.recorder.restore(state["recorder"])
        torch.set_rng_state(state["generator"])
        if state["device_generator"] is not None:
            torch.cuda.set_rng_state(state["device_generator"])
        if self.progress is not None:
            self.progress.skip(self.epoch * steps_per_epoch(self.loader) + self.batches_done)


def join_lone_sample(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches as they are, but a last one of a single sample joins the one before it.

    BatchNorm cannot normalise one sample on a 1 x 1 map, and dropping the sample would train on a smaller set.
    """
    waiting: Batch | None = None
    for batch in batches:
        if waiting is not None and len(batch.labels) == 1:
            batch = Batch(*(torch.cat(pair) for pair in zip(waiting, batch, strict=True)))
        elif waiting is not None:
            yield waiting
        waiting = batch
    if waiting is not None:
        yield waiting


def steps_per_epoch(loader: EpochLoader) -> int:
    """Batches of one epoch after `join_lone_sample`."""
    lone = loader.batches_per_epoch > 1 and loader.num_samples % loader.batch_size == 1
    return loader.batches_per_epoch - int(lone)
