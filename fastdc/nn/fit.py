"""The training loop: mixed precision, non-finite losses caught before they reach the weights, bit-equal resume.

One training takes its batches from a loader of its own (`Fit.run`), or several take theirs from one shared stream
(`fit_together`); their results are the same, because each has its own random numbers and its own clock.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from fastdc.errors import DivergedError
from fastdc.loader import Batch, EpochLoader, SharedLoader
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS, load_checkpoint, save_checkpoint
from fastdc.nn.device import Compute, no_scale_left
from fastdc.progress import Progress
from fastdc.seeding import derive_seed

Loss = Callable[[torch.Tensor, Any], torch.Tensor]
Targets = Callable[[torch.Tensor, torch.Tensor, int, int], tuple[torch.Tensor, Any]]


class Epochs(Protocol):
    """Where a training takes its batches from; an `EpochLoader` is one."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from batch `start` on."""


class SharedEpochs(Protocol):
    """Where several trainings take theirs from; a `SharedLoader` is one."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        """The tuples of batches of `epoch` from batch `start` on."""


class Recorder(Protocol):
    """What listens to a training: the observer's log, or the evaluation's curve."""

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        """After the forward pass of every batch; `logits`, float32 [B, C], are detached."""

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
        steps: steps per epoch, see `steps_per_epoch`.
        learning_rate: (epoch, step within it, steps per epoch) -> learning rate of that step.
        loss: (logits [B, C], labels [B] or what `targets` gives) -> scalar, mean over the batch.
        seed: training seed; dropout and the like draw from it.
        checkpoint: file for resuming, or None.
        identity: key of the run; a checkpoint of another run is refused.
        checkpoint_seconds: longest time between two checkpoints.
        checkpoint_epochs: also one after every epoch, for a recorder that cannot go back further.
        targets: (images float32 [B, 3, S, S], labels int64 [B], epoch, step within it) -> the images that the network
            sees, and what `loss` compares its logits with. None: both as they are. It must depend on its arguments
            alone, or a resumed run would end elsewhere.
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
    """One training run; `run` does all of it, or what a checkpoint left to do.

    Attributes:
        epoch, batches_done: the batch that it takes next.
        seconds: time spent in this run, that before a resume included.
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
        self.epoch, self.batches_done, self.loss_sum, self.samples, self.seconds = 0, 0, 0.0, 0, 0.0
        self._clock = self._last_save = time.monotonic()
        self._generators: list[torch.Tensor] | None = None

    @property
    def finished(self) -> bool:
        """Whether the plan is done."""
        return self.epoch >= self.plan.epochs

    def run(self, loader: Epochs) -> None:
        """Train to the end of the plan.

        Raises:
            DivergedError: a loss or gradient is NaN or infinite; the weights are those before that step.
        """
        with self.running():
            self.resume()
            while not self.finished:
                for (batch,) in join_lone_sample((batch,) for batch in loader.epoch(self.epoch, self.batches_done)):
                    self.take(batch)
            self.end()

    @contextmanager
    def running(self) -> Iterator[None]:
        """The run's clock goes and its random numbers are in place; outside the block both belong to others."""
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
        """Seconds of training so far, those before a resume included; for calls from inside `running`."""
        return self.seconds + time.monotonic() - self._clock

    def take(self, batch: Batch) -> None:
        """One step, and after an epoch's last one what is to be done then.

        Raises:
            DivergedError: see `run`.
        """
        if self.batches_done == 0:
            torch.manual_seed(derive_seed(self.plan.seed, "epoch", epoch=self.epoch))
        loss = self._step(batch, self.plan.learning_rate(self.epoch, self.batches_done, self.plan.steps))
        self.loss_sum += loss * len(batch.labels)
        self.samples += len(batch.labels)
        self.batches_done += 1
        if self.progress is not None:
            note = f"epoch {self.epoch + 1}/{self.plan.epochs}, loss {loss:.3f}"
            self.progress.advance(1, note, images=len(batch.labels))
        ended = self.batches_done == self.plan.steps
        if ended:
            self._end_epoch()
        self._save(force=ended and self.plan.checkpoint_epochs and self.plan.checkpoint is not None)

    def _end_epoch(self) -> None:
        mean, lr = self.loss_sum / self.samples, self.plan.learning_rate(self.epoch, 0, self.plan.steps)
        self.recorder.epoch_end(self.epoch, mean, lr)
        self.model.train()  # a validation leaves it in eval mode
        self.epoch, self.batches_done, self.loss_sum, self.samples = self.epoch + 1, 0, 0.0, 0

    def end(self) -> None:
        """Keep the finished run, so that one that is killed later need not train again."""
        self._save(force=self.plan.checkpoint is not None)

    def _step(self, batch: Batch, lr: float) -> float:
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
        value = self._check_finite(loss.detach(), lr)
        self.recorder.batch(batch, logits.detach())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if no_scale_left(self.scaler):
            raise self._diverged("gradients are not finite at any scale", lr)
        return value

    def _diverged(self, what: str, lr: float) -> DivergedError:
        return DivergedError(
            f"{what} in epoch {self.epoch + 1}, step {self.batches_done + 1}, at learning rate {lr:.3g}; "
            "lower lr or use precision fp32"
        )

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
            raise self._diverged(what, lr)
        return float(value)

    def _save(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.plan.checkpoint is None or not (force or now - self._last_save >= self.plan.checkpoint_seconds):
            return
        self._last_save = self._stop_clock()
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
        """Go on where the checkpoint is, if there is one.

        Raises:
            CheckpointError: it is damaged, or of another run.
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
        self.recorder.restore(state["recorder"])
        torch.set_rng_state(state["generator"])
        if state["device_generator"] is not None:
            torch.cuda.set_rng_state(state["device_generator"])
        if self.progress is not None:
            self.progress.skip(self.epoch * self.plan.steps + self.batches_done)


def fit_together(fits: Sequence[Fit], stream: SharedEpochs) -> list[DivergedError | None]:
    """Train several runs to their ends on one stream of batches; run k takes the k-th batch of each tuple.

    Runs that a kill left at different places meet again: the stream starts where the last of them is, and whoever is
    further takes nothing until it comes by.

    Returns:
        For each run None, or why it diverged; the others go on without it.

    Raises:
        CheckpointError: the checkpoint of one of them cannot be used.
    """
    faults: list[DivergedError | None] = [None] * len(fits)
    for fit in fits:
        with fit.running():
            fit.resume()
    while going := [fit for fit, fault in zip(fits, faults, strict=True) if fault is None and not fit.finished]:
        epoch, start = min((fit.epoch, fit.batches_done) for fit in going)
        for step, batches in enumerate(_timed(join_lone_sample(stream.epoch(epoch, start)), going), start):
            for k, (fit, batch) in enumerate(zip(fits, batches, strict=True)):
                if faults[k] is None and (fit.epoch, fit.batches_done) == (epoch, step):
                    faults[k] = _take(fit, batch)
    for fit, fault in zip(fits, faults, strict=True):
        if fault is None:
            with fit.running():
                fit.end()
    return faults


def _take(fit: Fit, batch: Batch) -> DivergedError | None:
    try:
        with fit.running():
            fit.take(batch)
    except DivergedError as error:
        return error.with_traceback(None)  # whose frames would hold the step's memory while the others train
    return None


def _timed(stream: Iterator[tuple[Batch, ...]], fits: Sequence[Fit]) -> Iterator[tuple[Batch, ...]]:
    """The stream; the time that it is waited for is shared out among the runs."""
    while True:
        start = time.monotonic()
        batches = next(stream, None)
        for fit in fits:
            fit.seconds += (time.monotonic() - start) / len(fits)
        if batches is None:
            return
        yield batches


def join_lone_sample(stream: Iterable[tuple[Batch, ...]]) -> Iterator[tuple[Batch, ...]]:
    """Tuples of batches of the same samples as they are, but a last one of a single sample joins the one before it.

    Where every batch is of one sample, that is what was asked for, and they stay. BatchNorm cannot normalise one sample
    on a 1 x 1 map, and dropping the sample would train on a smaller set.
    """
    waiting: tuple[Batch, ...] | None = None
    for batches in stream:
        if waiting is not None and len(batches[0].labels) == 1 < len(waiting[0].labels):
            batches = tuple(map(_join, waiting, batches))
        elif waiting is not None:
            yield waiting
        waiting = batches
    if waiting is not None:
        yield waiting


def _join(first: Batch, second: Batch) -> Batch:
    return Batch(*(torch.cat(pair) for pair in zip(first, second, strict=True)))


def steps_per_epoch(loader: EpochLoader | SharedLoader) -> int:
    """Batches of one epoch after `join_lone_sample`."""
    lone = loader.batches_per_epoch > 1 and loader.num_samples % loader.batch_size == 1
    return loader.batches_per_epoch - int(lone)
