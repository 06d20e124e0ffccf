"""The training of one network under a protocol, and the result that it reports."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fastdc.beton import BetonFile, Manifest, count_image_bytes, describe_beton, one_spelling
from fastdc.beton.classes import ALLOW_MISSING, missing_classes, order_advice
from fastdc.beton.hints import tile_crop
from fastdc.beton.manifest import unknown_classes
from fastdc.common.errors import BetonError, ConfigError
from fastdc.common.keys import content_key
from fastdc.common.log import Progress
from fastdc.loader import Batch, EpochLoader
from fastdc.nn.accuracy import Accuracy, measure_accuracy
from fastdc.nn.device import Compute
from fastdc.nn.fit import Fit, FitPlan
from fastdc.nn.models import build_model, decay_weights_only
from fastdc.track import emit
from fastdc.train.evaluate_settings import EvaluateSettings, EvaluationResult
from fastdc.train.labels.layout import hard_label_bytes as hard_label_bytes  # re-exported
from fastdc.train.labels.layout import label_bytes
from fastdc.train.labels.stored import StoredLabelling
from fastdc.train.labels.targets import Labelling
from fastdc.train.protocols import Protocol
from fastdc.train.size_rules import rate_share
from fastdc.train.target_losses import make_loss

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher

DEFAULT_IMAGE_SIZE = 224


@dataclass(frozen=True)
class Pair:
    """Compressed set with its validation set, whose classes were checked against each other.

    Attributes:
        subset, val: the betons. stored, validation: their manifests.
    """

    subset: Path
    val: Path
    stored: Manifest
    validation: Manifest

    @property
    def val_classes(self) -> tuple[int, ...] | None:
        """Return the subset's number of each validation class, matched by name; None if the class lists are equal."""
        stored, validation = (tuple(map(one_spelling, one.classes)) for one in (self.stored, self.validation))
        if stored == validation:
            return None
        numbers = {name: number for number, name in enumerate(stored)}
        return tuple(numbers[name] for name in validation)

    def views(self, settings: EvaluateSettings) -> int:
        """Return the visits to each stored image per epoch."""
        return tile_crop(settings.augment, self.stored.hints).views

    def side(self, settings: EvaluateSettings) -> int:
        """Return the side of the training crops in pixels."""
        return settings.image_size or training_side(self.subset, self.stored)

    def epochs(self, protocol: Protocol) -> int:
        """Return the number of epochs that the protocol trains on the subset."""
        return protocol.epochs_for(len(self.stored.ids), len(self.stored.classes))


def open_pair(subset: Path, val: Path, allow_missing_classes: bool = False) -> Pair:
    """Read both manifests, and check that classes and labels fit together.

    Args:
        allow_missing_classes: whether to match classes by name; the validation set may lack some.

    Raises:
        ConfigError: the class lists differ.
        BetonError, ManifestError: a file is damaged, or has a label without a class.
    """
    stored, validation = describe_beton(subset), describe_beton(val)
    check_same_classes(stored, validation, subset, val, allow_missing_classes)
    for path, manifest in ((subset, stored), (val, validation)):
        check_label_range(path, len(manifest.classes))
    return Pair(subset, val, stored, validation)


@dataclass(frozen=True)
class Training:
    """Network with everything that trains and validates it.

    Attributes:
        pair: the data sets. settings: settings of the evaluation. compute: device and precision.
        curve: validations so far. fit: the training run.
        labelling: maker of the targets; None for plain hard labels.
        teacher: network that makes soft labels; None for hard labels.
    """

    pair: Pair
    settings: EvaluateSettings
    compute: Compute
    curve: "Curve"
    fit: Fit
    labelling: Labelling | None = None
    teacher: "Teacher | None" = None

    def result(self, engine: str, seconds: float) -> EvaluationResult:
        """Return the result of the finished run.

        Args:
            engine: engine of the loader that fed it.
            seconds: wall time of the call.
        """
        last, plan = self.curve.last, self.fit.plan
        return EvaluationResult(
            top1=last.top1,
            top5=last.top5,
            top1_best=self.curve.best,
            per_class=last.per_class,
            curve=tuple(self.curve.entries),
            epochs=plan.epochs,
            steps=plan.epochs * plan.steps,
            seconds=seconds,
            train_seconds=self.fit.seconds,
            loader=engine,
            **self._described(),
            **self._labelled(),
        )

    def _described(self) -> dict[str, Any]:
        """Return the result's fields on data, settings and machine."""
        stored, settings = self.pair.stored, self.settings
        size = len(stored.ids), len(stored.classes), self.pair.views(settings)
        return {
            "images": len(stored.ids),
            "image_bytes": count_image_bytes(self.pair.subset, stored),
            "label_bytes": label_bytes(settings.protocol, *size),
            "dataset": stored.dataset,
            "arch": settings.arch,
            "protocol": settings.protocol.name,
            "batch_size": settings.protocol.batch_for(len(stored.ids)),
            "image_size": self.pair.side(settings),
            "augment": settings.augment,
            "seed": settings.seed,
            **self.compute.told(),
        }

    def _labelled(self) -> dict[str, Any]:
        """Return the result's fields on labels and teacher."""
        told: dict[str, Any] = {"labels": self.settings.protocol.labels}
        if self.labelling is not None:
            told["relabel_seconds"] = self.labelling.seconds
        if isinstance(self.labelling, StoredLabelling):
            told["label_file"] = self.labelling.file.sha256
        if self.teacher is not None:
            told |= {"teacher": self.teacher.name, "teacher_note": self.teacher.note}
            told["teacher_seconds"] = self.teacher.seconds
        return told


def make_training(
    pair: Pair,
    settings: EvaluateSettings,
    compute: Compute,
    val_loader: EpochLoader,
    steps: int,
    checkpoint: Path | None,
    checkpoint_seconds: float,
    labelling: Labelling | None = None,
    teacher: "Teacher | None" = None,
    name: str = "",
) -> Training:
    """Build a training without starting it.

    Args:
        steps: training steps per epoch.
        checkpoint: file from which a killed run resumes, or None.
        labelling, teacher: see `Training`.
        name: name of the run in its events.
    """
    size, protocol, classes = pair.side(settings), settings.protocol, len(pair.stored.classes)
    epochs = pair.epochs(protocol)
    model = build_model(settings.arch, classes, size, settings.seed).to(compute.device)
    curve = Curve(model, val_loader, classes, compute, protocol, epochs, labelling, name, pair.val_classes)
    plan = FitPlan(
        epochs=epochs,
        steps=steps,
        learning_rate=lambda epoch, _step, _steps: learning_rate(protocol, epoch, epochs),
        loss=make_loss(protocol),
        seed=settings.seed,
        checkpoint=checkpoint,
        identity=_identity(pair, settings, size, compute, teacher),
        checkpoint_seconds=checkpoint_seconds,
        targets=labelling,
    )
    # The compiled module shares its weights with `model`, which the optimizer and the validation use.
    network: nn.Module = torch.compile(model) if settings.compile else model  # type: ignore[assignment]
    fit = Fit(network, make_optimizer(model, protocol), compute, plan, curve)
    return Training(pair, settings, compute, curve, fit, labelling, teacher)


def watch(trainings: list[Training], bar: Progress) -> None:
    """Attach one progress bar to all trainings."""
    for training in trainings:
        training.fit.progress = bar


class Curve:
    """Recorder that validates at the protocol's epochs, and keeps and publishes an entry per epoch (`fastdc.track`)."""

    def __init__(
        self,
        model: nn.Module,
        loader: EpochLoader,
        num_classes: int,
        compute: Compute,
        protocol: Protocol,
        epochs: int,
        labelling: Labelling | None = None,
        name: str = "",
        val_classes: tuple[int, ...] | None = None,
    ) -> None:
        self.val_classes = None if val_classes is None else torch.tensor(val_classes)
        self.model, self.loader, self.num_classes = model, loader, num_classes
        self.compute, self.protocol, self.epochs, self.labelling, self.name = compute, protocol, epochs, labelling, name
        self._images, self._clock = 0, time.monotonic()
        self.entries: list[dict[str, Any]] = []
        self._last: Accuracy | None = None

    @property
    def last(self) -> Accuracy:
        """Return the accuracy of the last epoch; after resuming a finished run it is measured again."""
        if self._last is None:
            self._last = self._measure()
        return self._last

    def _measure(self) -> Accuracy:
        return measure_accuracy(self.model, self.loader, self.num_classes, self.compute, self.val_classes)

    @property
    def best(self) -> float:
        """Return the best top-1 over all validations in percent; shown, but never used for ranking."""
        return max(float(entry["top1"]) for entry in self.entries if entry["top1"] is not None)

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        """Count the batch's images, for the rate."""
        self._images += len(batch.labels)

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        """Validate if the protocol does so at this epoch, then add an entry and publish it."""
        rate = self._images / max(time.monotonic() - self._clock, 1e-9)
        entry: dict[str, Any] = {"epoch": epoch, "lr": lr, "loss": loss, "top1": None}
        if self.protocol.validated(epoch, self.epochs):
            self._last = self._measure()
            entry["top1"] = self._last.top1
        self.entries.append(entry)
        told = {**entry, "epoch": epoch + 1, "epochs": self.epochs}  # events count epochs from 1, entries from 0
        emit("epoch", cell=self.name, **told, images_per_second=round(rate, 1))
        self._images, self._clock = 0, time.monotonic()

    def state(self) -> dict[str, Any]:
        """Return the curve so far and, with a labelling, the seconds of the teacher's forward passes."""
        state: dict[str, Any] = {"entries": self.entries}
        return state if self.labelling is None else {**state, "relabel_seconds": self.labelling.seconds}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the curve and the teacher's seconds from a checkpoint."""
        self.entries = list(state["entries"])
        if self.labelling is not None:
            self.labelling.restore(state["relabel_seconds"])


def learning_rate(protocol: Protocol, epoch: int, epochs: int) -> float:
    """Return the learning rate of `epoch` (counted from 0) of `epochs`, by the protocol's schedule."""
    return protocol.lr * rate_share(protocol.schedule, epoch, epochs)


def make_optimizer(model: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    """Return SGD, which decays every parameter, or AdamW, which decays weight matrices only unless `decay_all`."""
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=protocol.lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay
        )
    if protocol.decay_all:
        return torch.optim.AdamW(model.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay, fused=True)
    return torch.optim.AdamW(decay_weights_only(model, protocol.weight_decay), lr=protocol.lr, fused=True)


def check_same_classes(
    stored: Manifest, validation: Manifest, subset: Path, val: Path, allow_missing: bool = False
) -> None:
    """Refuse a validation set whose labels mean other classes than the subset's.

    Args:
        allow_missing: whether it may lack classes or order them otherwise, because they are matched by name.

    Raises:
        ConfigError: the classes differ. The message names the first that does, or the two counts.
    """
    unknown = unknown_classes((subset, stored), (val, validation))
    if unknown is not None and stored.classes != validation.classes:
        raise ConfigError(unknown)
    lost = missing_classes(stored.classes, validation.classes)
    if allow_missing and lost is not None:
        return
    hint = f"use sets of equal classes{ALLOW_MISSING if lost else ''}"
    if lost == []:
        hint = f"they have the same classes in another order; {order_advice(subset, val)}"
    pairs = zip(stored.classes, validation.classes, strict=False)
    for label, (left, right) in enumerate(pairs):
        if one_spelling(left) != one_spelling(right):
            raise ConfigError(f"class {label} is '{left}' in {subset} but '{right}' in {val}; {hint}")
    if len(stored.classes) != len(validation.classes):
        counts = f"{subset} has {len(stored.classes)} classes, {val} has {len(validation.classes)}"
        raise ConfigError(f"{counts}; {hint}")


def check_label_range(path: Path, num_classes: int) -> None:
    """Refuse labels without an output of the network, which on a GPU would fail an assertion that names no file.

    Raises:
        BetonError: a label is out of range. The message names the first such sample.
    """
    with BetonFile(path) as beton:
        outside = np.flatnonzero((beton.labels < 0) | (beton.labels >= num_classes))
        if outside.size:
            found = f"label {beton.labels[outside[0]]}, expected 0..{num_classes - 1}"
            raise BetonError(f"{path}: sample {outside[0]}: {found}; run verify-beton on it")


def training_side(subset: Path, manifest: Manifest) -> int:
    """Return the side of training crops: the subset's hint, else its images' side, or 224 if their sides differ.

    Raises:
        ConfigError: the hint is not a whole number.
    """
    hinted = manifest.hints.get("image_size")
    if hinted is not None:
        if type(hinted) is not int:  # isinstance would accept True
            raise ConfigError(
                f"{subset}: hint image_size={hinted!r}: expected a whole number of pixels; make the set again, or give "
                "--image-size"
            )
        return hinted
    with BetonFile(subset) as beton:
        sides = {int(side) for sides in (beton.heights, beton.widths) for side in (sides.min(), sides.max())}
    return sides.pop() if len(sides) == 1 else DEFAULT_IMAGE_SIZE


def _identity(
    pair: Pair, settings: EvaluateSettings, size: int, compute: Compute, teacher: "Teacher | None" = None
) -> str:
    # Excluded: what does not change the result, and what follows below in its resolved form.
    plain = settings.model_dump(exclude={"loader", "loader_workers", "threads", "precision", "image_size"})
    return content_key(
        {
            "subset": pair.stored.content_hash,
            "val": pair.validation.content_hash,
            "settings": plain,
            "image_size": size,
            "precision": compute.key,
            "threads": compute.threads if compute.device.type == "cpu" else None,
            **({} if teacher is None else {"teacher": teacher.identity}),
        }
    )
