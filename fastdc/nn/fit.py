"""One training: mixed precision, non-finite losses caught before they reach the weights, bit-equal resume."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import nn

from fastdc.common.errors import DivergedError
from fastdc.common.keys import derive_seed
from fastdc.common.log import Progress
from fastdc.common.transfer import Lead, send
from fastdc.loader import Batch
from fastdc.nn.checkpoint import load_checkpoint, save_checkpoint
from fastdc.nn.device import Compute, no_scale_left
from fastdc.nn.fit_plan import FitPlan, Recorder
from fastdc.nn.lane import Lane
from fastdc.nn.step_graphs import StepGraphs, report_no_graphs, why_no_graphs
from fastdc.nn.step_input import BatchInput, StepInput
from fastdc.nn.step_ledger import StepLedger
from fastdc.nn.visit_program import Visits


class Fit:
    """One training run, fresh or resumed from a checkpoint; `fit_loop` gives it its batches.

    Attributes:
        epoch, batches_done: place of the next batch.
        seconds: training time, including the time before a resume.
        lane: its random state and stream, apart from those of other trainings.
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
        self.graphs = self._make_graphs()
        self._lead = Lead() if compute.device.type == "cuda" else None
        self.epoch, self.batches_done, self.loss_sum, self.samples, self.seconds = 0, 0, 0.0, 0, 0.0
        self._clock = self._last_save = time.monotonic()
        self._sharers = 0
        self.lane = Lane(compute.device)

    def _may_defer(self) -> bool:
        """Return whether losses and faults may be read once per epoch instead of once per step.

        Only a fused optimizer can leave the weights alone after a fault that the host does not know yet.
        """
        fused = bool(self.optimizer.defaults.get("fused"))
        return self.compute.device.type == "cuda" and fused and not self.scaler.is_enabled()

    def _make_graphs(self) -> StepGraphs | None:
        device = self.compute.device
        reason = why_no_graphs(device, self.optimizer, self.ledger, self.recorder)
        if reason and device.type == "cuda":
            report_no_graphs(reason)
        if reason or self.ledger is None:
            return None
        return StepGraphs(self.model, self.optimizer, self.ledger, device)

    @property
    def finished(self) -> bool:
        """Return whether all epochs of the plan are done."""
        return self.epoch >= self.plan.epochs

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run a block with this training's clock running and its random state installed.

        Several trainings in one process take turns. Each block restores the random state that it found.
        """
        with self.timed(), self.lane.turn():
            yield

    @contextmanager
    def timed(self, sharers: int = 1) -> Iterator[None]:
        """Run a block with this training's clock running, unless it runs already.

        Args:
            sharers: trainings that divide the time equally.
        """
        if self._sharers:
            yield
            return
        self._clock, self._sharers = time.monotonic(), sharers
        try:
            yield
        finally:
            self._stop_clock()
            self._sharers = 0

    def _stop_clock(self) -> float:
        now = time.monotonic()
        self.seconds += (now - self._clock) / self._sharers
        self._clock = now
        return now

    def elapsed(self) -> float:
        """Return seconds of training so far, including those before a resume; valid only inside `running`."""
        return self.seconds + (time.monotonic() - self._clock) / self._sharers

    def take(self, batch: Batch | Visits) -> None:
        """Train on one batch, or on the next visits of a program, and save a checkpoint when one is due.

        After an epoch's last batch the epoch is finished first.

        Raises:
            DivergedError: a loss or gradient is NaN or infinite; the weights are those before that step.
        """
        self.train_batch(batch)
        if self.epoch_trained:
            self.end_epoch()

    def train_batch(self, batch: Batch | Visits) -> None:
        """Do what `take` does, but leave an epoch's end to `end_epoch`, which waits for the device.

        Raises:
            DivergedError: as `take`.
        """
        if self.batches_done == 0:  # reseeding per epoch makes dropout independent of anything drawn before
            torch.manual_seed(derive_seed(self.plan.seed, "epoch", epoch=self.epoch))
        loss = self._step(batch, self.plan.learning_rate(self.epoch, self.batches_done, self.plan.steps))
        samples = batch.size if isinstance(batch, Visits) else len(batch.labels)
        if self._lead is not None and isinstance(batch, Batch):
            self._lead.step()
        self.recorder.step(samples)
        self.samples += samples
        self.batches_done += 1
        if self.progress is not None:
            note = f"epoch {self.epoch + 1}/{self.plan.epochs}" + ("" if loss is None else f", loss {loss:.3f}")
            self.progress.advance(1, note, images=samples)
        if not self.epoch_trained:
            self._save()

    @property
    def epoch_trained(self) -> bool:
        """Return whether the epoch's last batch is trained, and `end_epoch` is next."""
        return self.batches_done == self.plan.steps

    def end_epoch(self) -> None:
        """Finish the epoch, and save a checkpoint when one is due.

        Raises:
            DivergedError: as `take`.
        """
        self._read_ledger()
        mean, lr = self.loss_sum / self.samples, self.plan.learning_rate(self.epoch, 0, self.plan.steps)
        self.recorder.epoch_end(self.epoch, mean, lr)
        self.model.train()  # a validation leaves it in eval mode
        self.epoch, self.batches_done, self.loss_sum, self.samples = self.epoch + 1, 0, 0.0, 0
        if self.ledger is not None:
            self.ledger.begin()
        # Last, so that the recorder has the whole epoch before a checkpoint follows it.
        self._save(force=self.plan.checkpoint_epochs and self.plan.checkpoint is not None)

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

    def _step(self, batch: Batch | Visits, lr: float) -> float | None:
        """Train one step; return its loss, or None if the device keeps it."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.graphs is not None and not self.graphs.reason:
            self.graphs.take(self._step_on_device, self._input(batch), lr)
            return None
        images, targets = self._input(batch).read()
        loss, logits = self._backward(images, targets)
        value = self._account(loss, len(logits))
        if isinstance(batch, Batch):
            self.recorder.batch(batch, logits)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if no_scale_left(self.scaler):
            raise self._diverged("gradients are not finite at any scale", self.batches_done + 1)
        return value

    def _input(self, batch: Batch | Visits) -> StepInput:
        """Return a batch as input of a step; `FitPlan.targets` is applied."""
        if isinstance(batch, Visits):
            return batch
        if self.plan.targets is None:
            return BatchInput(batch.images, batch.labels)
        images, labels = self.compute.images(batch.images), send(batch.labels, self.compute.device)
        return BatchInput(*self.plan.targets(images, labels, self.epoch, self.batches_done))

    def _backward(self, images: torch.Tensor, targets: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute all gradients; return loss and logits, detached."""
        self.optimizer.zero_grad(set_to_none=True)
        images = self.compute.images(images)
        if isinstance(targets, torch.Tensor):
            targets = send(targets, self.compute.device)
        logits = self.compute.logits(self.model, images)
        loss = self.plan.loss(logits, targets)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), logits.detach()

    def _step_on_device(self, images: torch.Tensor, targets: Any) -> None:
        """Train one step without a part for the host, for a graph."""
        loss, logits = self._backward(images, targets)
        self._account(loss, len(logits))
        self.optimizer.step()

    def _account(self, loss: torch.Tensor, samples: int) -> float | None:
        """Add a step's loss to the sum, and check it and the gradients; with a ledger the device does both.

        Raises:
            DivergedError: the loss or a gradient is not finite.
        """
        norm = self._gradient_norm(loss)
        if self.ledger is not None:
            self.ledger.add(loss, norm, samples)
            self.optimizer.found_inf = self.ledger.fault  # type: ignore[attr-defined]  # read by fused optimizers
            return None
        value, gradient = torch.stack([loss, norm]).tolist()  # one device read for both
        if not (math.isfinite(value) and math.isfinite(gradient)):
            self._refuse(value, gradient, self.batches_done + 1)
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
            self.ledger.begin(self.loss_sum, self.batches_done)
        self.recorder.restore(state["recorder"])  # after the place: a recorder may read `epoch` and `finished`
        torch.set_rng_state(state["generator"])
        if state["device_generator"] is not None:
            torch.cuda.set_rng_state(state["device_generator"])
        if self.progress is not None:
            self.progress.skip(self.epoch * self.plan.steps + self.batches_done)
