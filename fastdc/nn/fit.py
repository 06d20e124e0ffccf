"""One training: mixed precision, non-finite losses caught before they reach the weights, bit-equal resume."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from fastdc.common.errors import DivergedError
from fastdc.common.keys import derive_seed
from fastdc.common.log import Progress
from fastdc.loader import Batch
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS, load_checkpoint, save_checkpoint
from fastdc.nn.device import Compute, no_scale_left
from fastdc.nn.step_ledger import StepLedger

Loss = Callable[[torch.Tensor, Any], torch.Tensor]
Targets = Callable[[torch.Tensor, torch.Tensor, int, int], tuple[torch.Tensor, Any]]


class Recorder:
    """Callbacks of a training, which do nothing here; the observer's log and the evaluation's curve implement them."""

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        """Record a batch after its loss is known to be finite and before the weights change.

        Args:
            logits: float32 [B, C], detached.
        """

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


class Fit:
    """One training run, fresh or resumed from a checkpoint; `fit_loop` gives it its batches.

    Attributes:
        epoch, batches_done: place of the next batch.
        seconds: training time, including the time before a resume.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        compute: Compute,
        plan: FitPlan,
        recorder: Recorder,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.compute, self.plan, self.recorder, self.progress = compute, plan, recorder, progress
        self.scaler = compute.scaler()
        self.ledger = StepLedger(compute.device) if self._may_defer() else None
        self.epoch, self.batches_done, self.loss_sum, self.samples, self.seconds = 0, 0, 0.0, 0, 0.0
        self._clock = self._last_save = time.monotonic()
        self._generators: list[torch.Tensor] | None = None

    def _may_defer(self) -> bool:
        """Return whether losses and faults may be read once per epoch instead of once per step.

        Only a fused optimizer can leave the weights alone after a fault that the host does not know yet.
        """
        fused = bool(self.optimizer.defaults.get("fused"))
        return self.compute.device.type == "cuda" and fused and not self.scaler.is_enabled()

    @property
    def finished(self) -> bool:
        """Return whether all epochs of the plan are done."""
        return self.epoch >= self.plan.epochs

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run a block with this training's clock running and its random state installed.

        Several trainings in one process take turns. Each block restores the random state that it found.
        """
        self._clock = time.monotonic()
        others = self._random_states()
        if self._generators is not None:
            self._set_random_states(self._generators)
        try:
            yield
        finally:
            self._generators = self._random_states()
            self._set_random_states(others)
            self._stop_clock()

    def _random_states(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        return [*states, torch.cuda.get_rng_state()] if self.compute.device.type == "cuda" else states

    def _set_random_states(self, states: Sequence[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if len(states) > 1 and self.compute.device.type == "cuda":
            torch.cuda.set_rng_state(states[1])

    def _stop_clock(self) -> float:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now
        return now

    def elapsed(self) -> float:
        """Return seconds of training so far, including those before a resume; valid only inside `running`."""
        return self.seconds + time.monotonic() - self._clock

    def take(self, batch: Batch) -> None:
        """Train on one batch; after an epoch's last batch also finish the epoch. Save a checkpoint when one is due.

        Raises:
            DivergedError: a loss or gradient is NaN or infinite; the weights are those before that step.
        """
        if self.batches_done == 0:  # reseeding per epoch makes dropout independent of anything drawn before
            torch.manual_seed(derive_seed(self.plan.seed, "epoch", epoch=self.epoch))
        loss = self._step(batch, self.plan.learning_rate(self.epoch, self.batches_done, self.plan.steps))
        self.samples += len(batch.labels)
        self.batches_done += 1
        if self.progress is not None:
            note = f"epoch {self.epoch + 1}/{self.plan.epochs}" + ("" if loss is None else f", loss {loss:.3f}")
            self.progress.advance(1, note, images=len(batch.labels))
        ended = self.batches_done == self.plan.steps
        if ended:
            self._end_epoch()
        # After `_end_epoch`, so that the recorder has the whole epoch before a checkpoint follows it.
        self._save(force=ended and self.plan.checkpoint_epochs and self.plan.checkpoint is not None)

    def _end_epoch(self) -> None:
        self._read_ledger()
        mean, lr = self.loss_sum / self.samples, self.plan.learning_rate(self.epoch, 0, self.plan.steps)
        self.recorder.epoch_end(self.epoch, mean, lr)
        self.model.train()  # a validation leaves it in eval mode
        self.epoch, self.batches_done, self.loss_sum, self.samples = self.epoch + 1, 0, 0.0, 0
        if self.ledger is not None:
            self.ledger.begin()

    def _read_ledger(self) -> None:
        """Bring `loss_sum` up to date, if the device holds it.

        Raises:
            DivergedError: a step since the last reading had a loss or gradient that is not finite.
        """
        if self.ledger is None:
            return
        self.loss_sum, fault = self.ledger.read()
        if fault is not None:
            self._refuse(fault.loss, fault.norm, fault.step)

    def end(self) -> None:
        """Save the finished run, so that a process killed after training need not train again."""
        self._save(force=self.plan.checkpoint is not None)

    def _step(self, batch: Batch, lr: float) -> float | None:
        """Train one step; return its loss, or None if the device keeps it."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        images = self.compute.images(batch.images)
        targets: Any = batch.labels.to(self.compute.device, non_blocking=True)
        if self.plan.targets is not None:
            images, targets = self.plan.targets(images, targets, self.epoch, self.batches_done)
        logits = self.compute.logits(self.model, images)
        loss = self.plan.loss(logits, targets)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        value = self._account(loss.detach(), len(batch.labels))
        self.recorder.batch(batch, logits.detach())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if no_scale_left(self.scaler):
            raise self._diverged("gradients are not finite at any scale", self.batches_done + 1)
        return value

    def _account(self, loss: torch.Tensor, samples: int) -> float | None:
        """Add a step's loss to the sum, and check it and the gradients; with a ledger the device does both.

        Raises:
            DivergedError: the loss or a gradient is not finite.
        """
        norm, step = self._gradient_norm(loss), self.batches_done + 1
        if self.ledger is not None:
            self.ledger.add(step, loss, norm, samples)
            self.optimizer.found_inf = self.ledger.fault  # type: ignore[attr-defined]  # read by fused optimizers
            return None
        value, gradient = torch.stack([loss, norm]).tolist()  # one device read for both
        if not (math.isfinite(value) and math.isfinite(gradient)):
            self._refuse(value, gradient, step)
        self.loss_sum += value * samples
        return float(value)

    def _gradient_norm(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the norm of all gradients, which is finite only if each of them is; 0 under fp16.

        Infinite gradients under fp16 pass: the scaler skips that step and lowers its scale.
        """
        if self.scaler.is_enabled():
            return torch.zeros_like(loss)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients).to(loss)

    def _refuse(self, loss: float, gradient: float, step: int) -> NoReturn:
        raise self._diverged(f"loss is {loss}" if not math.isfinite(loss) else f"gradient norm is {gradient}", step)

    def _diverged(self, what: str, step: int) -> DivergedError:
        lr = self.plan.learning_rate(self.epoch, step - 1, self.plan.steps)
        return DivergedError(
            f"{what} in epoch {self.epoch + 1}, step {step}, at learning rate {lr:.3g}; lower lr or use precision fp32"
        )

    def _save(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.plan.checkpoint is None or not (force or now - self._last_save >= self.plan.checkpoint_seconds):
            return
        self._read_ledger()
        self._last_save = self._stop_clock()  # brings `seconds`, which is saved below, up to date
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

    def resume(self) -> None:
        """Continue from the checkpoint if there is one.

        Raises:
            CheckpointError: the checkpoint is damaged, or belongs to another run.
        """
        self.model.train()
        state = load_checkpoint(self.plan.checkpoint, self.plan.identity) if self.plan.checkpoint else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.batches_done, self.samples = state["place"]
        self.loss_sum, self.seconds = state["sums"]
        if self.ledger is not None:
            self.ledger.begin(self.loss_sum)
        self.recorder.restore(state["recorder"])  # after the place: a recorder may read `epoch` and `finished`
        torch.set_rng_state(state["generator"])
        if state["device_generator"] is not None:
            torch.cuda.set_rng_state(state["device_generator"])
        if self.progress is not None:
            self.progress.skip(self.epoch * self.plan.steps + self.batches_done)
