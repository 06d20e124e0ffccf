"""Targets of a training: hard labels, or a teacher's logits on each batch. `stored` reads them from a file."""

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from fastdc.common.errors import ConfigError, DivergedError
from fastdc.common.keys import derive_seed
from fastdc.nn.device import Compute
from fastdc.train.batch_augment import augment_batch, draw_augment
from fastdc.train.batch_mixing import Mixed, mix_batch, mix_classes
from fastdc.train.labels.layout import Place
from fastdc.train.protocols import Protocol
from fastdc.train.target_losses import SoftTargets

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher


def stream_seed(protocol: Protocol, seed: int) -> int:
    """Return the seed of crops, flips and mixing, and of the sample order unless all seeds share it.

    Stored labels fit only the stream of their label seed, whatever the training seed. Online labels with a training
    seed equal to that label seed use the same stream.
    """
    return derive_seed(protocol.label_seed if protocol.labels == "stored" else seed, "training")


class Labelling:
    """Augmentation, mixing and targets of batches with hard labels; the `targets` of a `FitPlan`.

    Subclasses give soft labels.
    """

    def __init__(self, protocol: Protocol, seed: int, classes: int) -> None:
        self.protocol, self.classes = protocol, classes
        self._seed = stream_seed(protocol, seed)

    @property
    def seconds(self) -> float:
        """Return the seconds of the teacher's forward passes; 0 without a teacher."""
        return 0.0

    def restore(self, seconds: float) -> None:
        """Restore the teacher's seconds from a checkpoint; does nothing where they do not belong to the run."""

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, epoch: int, step: int) -> tuple[torch.Tensor, Any]:
        """Augment and mix a batch, and make its targets.

        Returns:
            The network's input images [B, 3, S, S], and the targets. Soft labels give `SoftTargets`. Hard labels give
            class shares [B, C] for mixed images; otherwise, or if `mix_target` is `own`, the labels themselves.
        """
        place = self.place(epoch, step)
        images, mixed = self.mixed(images, place)
        if not self.protocol.soft:
            own = mixed is None or self.protocol.mix_target == "own"
            return images, labels if own else mix_classes(labels, self.classes, mixed)
        logits = self.logits(images, place)
        return images, SoftTargets(logits, self._classes(labels, mixed))

    def _classes(self, labels: torch.Tensor, mixed: Mixed | None) -> torch.Tensor | None:
        return mix_classes(labels, self.classes, mixed) if self.protocol.loss == "mse_ce" else None

    def place(self, epoch: int, step: int) -> Place:
        """Return the place in the stream of the batch that a training takes at (epoch, step).

        It is (epoch, step) itself, except where labels are pruned.
        """
        return Place(epoch, step)

    def mixed(self, images: torch.Tensor, place: Place) -> tuple[torch.Tensor, Mixed | None]:
        """Augment and mix the images of the stream's batch at `place`; also return the mixing, or None."""
        protocol, where = self.protocol, (self._seed, place.epoch, place.step)
        if protocol.batch_augment != "none":
            images = augment_batch(images, draw_augment(protocol.batch_augment, *where, len(images)))
        return mix_batch(protocol.mix, images, *where, protocol.alpha)

    def logits(self, images: torch.Tensor, place: Place) -> torch.Tensor:
        """Return the teacher's logits of a mixed batch, float32 [B, C] on the images' device."""
        raise AssertionError("hard labels need no logits")


class OnlineLabelling(Labelling):
    """Labelling by a teacher that runs during the training."""

    def __init__(self, protocol: Protocol, seed: int, classes: int, compute: Compute, teacher: "Teacher") -> None:
        super().__init__(protocol, seed, classes)
        self._timed = TimedTeacher(teacher, classes, compute)

    @property
    def seconds(self) -> float:
        """Return the seconds of the teacher's forward passes in this run."""
        return self._timed.seconds

    def restore(self, seconds: float) -> None:
        """Restore the teacher's seconds from a checkpoint."""
        self._timed.restore(seconds)

    def logits(self, images: torch.Tensor, place: Place) -> torch.Tensor:
        """Compute the teacher's logits; they are not stored."""
        return self._timed(images)


class TimedTeacher:
    """Teacher with a check of its logits' shape and a count of its time."""

    def __init__(self, teacher: "Teacher", classes: int, compute: Compute) -> None:
        self.teacher, self.classes, self.compute = teacher, classes, compute
        self._seconds = 0.0
        self._events: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()  # around passes not counted yet

    @property
    def seconds(self) -> float:
        """Return the seconds that its forward passes took on the device."""
        self._count_events(wait=True)
        return self._seconds

    def restore(self, seconds: float) -> None:
        """Set the count to that of a checkpoint, and discard passes that are not counted yet."""
        self._seconds = seconds
        self._events.clear()

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, float32 [B, C], for normalised images [B, 3, S, S].

        Raises:
            ConfigError: the teacher has another number of classes.
        """
        logits = self._timed(images)
        if logits.shape != (len(images), self.classes):
            raise ConfigError(
                f"teacher {self.teacher.name}: its outputs have shape {tuple(logits.shape)}, expected "
                f"({len(images)}, {self.classes}); take a teacher of the data set's classes"
            )
        return logits

    def _timed(self, images: torch.Tensor) -> torch.Tensor:
        if self.compute.device.type != "cuda":
            start = time.monotonic()
            answer = self.compute.logits(self.teacher.model, images)
            self._seconds += time.monotonic() - start
            return answer
        # Events measure the device's time without waiting for it.
        self._count_events(wait=False)
        first, last = _event(), _event()
        first.record()
        answer = self.compute.logits(self.teacher.model, images)
        last.record()
        self._events.append((first, last))
        return answer

    def _count_events(self, wait: bool) -> None:
        """Add the time of passes that have ended, or of all, for whose end it then waits."""
        while self._events and (wait or _ended(self._events[0][1])):
            start, end = self._events.popleft()
            end.synchronize()
            self._seconds += start.elapsed_time(end) / 1000


def _ended(event: torch.cuda.Event) -> bool:
    return bool(event.query())  # type: ignore[no-untyped-call]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def check_answers(logits: torch.Tensor, teacher: "Teacher") -> None:
    """Check that logits to be stored are finite.

    Args:
        logits: already converted to fp16, so that values beyond its range are infinite.

    Raises:
        DivergedError: a logit is NaN or infinite.
    """
    if not bool(torch.isfinite(logits).all()):
        raise DivergedError(
            f"teacher {teacher.name}: its logits are NaN, infinite or beyond {torch.finfo(torch.float16).max:,.0f}, "
            "the range of fp16; use precision fp32, or another teacher"
        )
