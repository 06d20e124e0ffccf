"""What a training learns from: the stored class, a teacher's word on every batch, or that word read from a file."""

import time
from typing import TYPE_CHECKING, Any

import torch

from fastdc.errors import ConfigError, DivergedError
from fastdc.nn.device import Compute
from fastdc.seeding import derive_seed
from fastdc.train.batch_augment import augment_batch, draw_augment
from fastdc.train.label_layout import Place
from fastdc.train.losses import SoftTargets
from fastdc.train.mixing import Mixed, mix_batch, mix_classes
from fastdc.train.protocols import Protocol

if TYPE_CHECKING:
    from fastdc.nn.teacher import Teacher


def stream_seed(protocol: Protocol, seed: int) -> int:
    """Seed of crops, flips and mixing, and of the order where it is a training's own.

    Stored labels fit one stream alone, that of their label seed, whatever the training seed is; it is the stream of
    online labels with that training seed.
    """
    return derive_seed(protocol.label_seed if protocol.labels == "stored" else seed, "training")


class Labelling:
    """Augments and mixes a batch and makes its targets; the `targets` of a `FitPlan`."""

    def __init__(self, protocol: Protocol, seed: int, classes: int) -> None:
        self.protocol, self.classes = protocol, classes
        self._seed = stream_seed(protocol, seed)

    @property
    def seconds(self) -> float:
        """Time that the teacher's forward passes took; 0 without a teacher."""
        return 0.0

    def restore(self, seconds: float) -> None:
        """Take over the time of the run that a checkpoint holds, where it belongs to the run."""

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, epoch: int, step: int) -> tuple[torch.Tensor, Any]:
        """Return the images that the network sees, [B, 3, S, S], and what its logits are compared with.

        Returns:
            Of soft labels `SoftTargets`. Of hard ones class shares [B, C] where images are mixed, and the labels as
            they are where they are not, or where `mix_target` is `own`.
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
        """Where the stream makes the batch that a training takes at (epoch, step): there, but for pruned labels."""
        return Place(epoch, step)

    def mixed(self, images: torch.Tensor, place: Place) -> tuple[torch.Tensor, Mixed | None]:
        """Return the images of the stream's batch at `place`, augmented and mixed, and how they share classes."""
        protocol, where = self.protocol, (self._seed, place.epoch, place.step)
        if protocol.batch_augment != "none":
            images = augment_batch(images, draw_augment(protocol.batch_augment, *where, len(images)))
        return mix_batch(protocol.mix, images, *where, protocol.alpha)

    def logits(self, images: torch.Tensor, place: Place) -> torch.Tensor:
        """The teacher's logits of a mixed batch, float32 [B, C] on the images' device."""
        raise AssertionError("hard labels need no logits")


class OnlineLabelling(Labelling):
    """Labels that a teacher gives while the network trains."""

    def __init__(self, protocol: Protocol, seed: int, classes: int, compute: Compute, teacher: "Teacher") -> None:
        super().__init__(protocol, seed, classes)
        self._ask = AskedTeacher(teacher, classes, compute)

    @property
    def seconds(self) -> float:
        """See `Labelling`."""
        return self._ask.seconds

    def restore(self, seconds: float) -> None:
        """Count on from the time of the run that a checkpoint holds."""
        self._ask.restore(seconds)

    def logits(self, images: torch.Tensor, place: Place) -> torch.Tensor:
        """The teacher's logits; they are used and forgotten."""
        return self._ask(images)


class AskedTeacher:
    """A teacher, its answers checked and its time counted."""

    def __init__(self, teacher: "Teacher", classes: int, compute: Compute) -> None:
        self.teacher, self.classes, self.compute = teacher, classes, compute
        self._seconds = 0.0
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None

    @property
    def seconds(self) -> float:
        """Time that its forward passes took on the device."""
        self._count_events()
        return self._seconds

    def restore(self, seconds: float) -> None:
        """Count on from there."""
        self._seconds, self._events = seconds, None

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits float32 [B, C] of normalised images [B, 3, S, S].

        Raises:
            ConfigError: they are of another number of classes.
        """
        logits = self._timed(images)
        if logits.shape != (len(images), self.classes):
            raise ConfigError(
                f"teacher {self.teacher.name}: answers with shape {tuple(logits.shape)}, expected "
                f"({len(images)}, {self.classes}); take a teacher of the data set's classes"
            )
        return logits

    def _timed(self, images: torch.Tensor) -> torch.Tensor:
        if self.compute.device.type != "cuda":
            start = time.monotonic()
            answer = self.compute.logits(self.teacher.model, images)
            self._seconds += time.monotonic() - start
            return answer
        self._count_events()
        first, last = _event(), _event()
        first.record()
        answer = self.compute.logits(self.teacher.model, images)
        last.record()
        self._events = first, last
        return answer

    def _count_events(self) -> None:
        """Add the last pass's time. The training has read that step's loss since, so that nothing is waited for."""
        if self._events is not None:
            start, end = self._events
            end.synchronize()
            self._seconds += start.elapsed_time(end) / 1000
            self._events = None


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def check_answers(logits: torch.Tensor, teacher: "Teacher") -> None:
    """Refuse labels that are no numbers, or none in the range of their stored type.

    Raises:
        DivergedError: names the teacher.
    """
    if not bool(torch.isfinite(logits).all()):
        raise DivergedError(
            f"teacher {teacher.name}: its logits are NaN, infinite or beyond {torch.finfo(torch.float16).max:,.0f}, "
            "the range of fp16; use precision fp32, or another teacher"
        )
