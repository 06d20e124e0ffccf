"""Evaluation: train a network from scratch on a compressed set, measure it on the validation set."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastdc.beton import BetonFile, Manifest, describe_beton
from fastdc.errors import ConfigError
from fastdc.files import check_not_input
from fastdc.hashing import content_key
from fastdc.loader import Batch, EpochLoader, EvalView, TrainView, open_loader
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS
from fastdc.nn.device import Compute, choose_compute
from fastdc.nn.fit import Fit, FitPlan, steps_per_epoch
from fastdc.nn.models import build_model, decay_weights_only
from fastdc.nn.predict import Accuracy, measure_accuracy
from fastdc.progress import progress
from fastdc.seeding import derive_seed
from fastdc.train.protocols import Protocol
from fastdc.train.settings import EvaluateSettings, EvaluationResult

DEFAULT_IMAGE_SIZE = 224
VALIDATION_BATCH = 256
"""Speed only: batch statistics are frozen in eval mode, so the batch does not change the accuracy's meaning."""


def evaluate(
    subset: Path,
    val: Path,
    settings: EvaluateSettings,
    *,
    checkpoint: Path | None = None,
    show_progress: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> EvaluationResult:
    """Accuracy of a network trained on `subset` under one protocol.

    On CPU, equal settings give equal accuracy, bit for bit, for any loader and number of loader workers, and
    whether or not the run was killed and resumed.

    Args:
        subset, val: betons with the same classes in the same order.
        checkpoint: file that a killed run resumes from; kept until the caller removes it.

    Raises:
        ConfigError: class lists differ, unknown architecture, precision that the device lacks.
        DivergedError: a loss became NaN or infinite.
        OutputError: `checkpoint` names the subset or the validation set.
        BetonError, LoaderError, ManifestError: a file is damaged.
    """
    start = time.monotonic()
    if checkpoint is not None:
        check_not_input(checkpoint, (subset, val))
    stored, validation = describe_beton(subset), describe_beton(val)
    check_same_classes(stored, validation, subset, val)
    compute = choose_compute(settings.precision, settings.threads)
    size = settings.image_size or stored_side(subset)
    protocol = settings.protocol
    train_loader, val_loader = open_loaders(subset, val, stored, settings, size)
    model = build_model(settings.arch, len(stored.classes), size, settings.seed).to(compute.device)
    curve = Curve(model, val_loader, len(stored.classes), compute, protocol)
    plan = FitPlan(
        epochs=protocol.epochs,
        learning_rate=lambda epoch, _step, _steps: learning_rate(protocol, epoch),
        loss=nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing),
        seed=settings.seed,
        checkpoint=checkpoint,
        identity=_identity(stored, validation, settings, size, compute),
        checkpoint_seconds=checkpoint_seconds,
    )
    steps = protocol.epochs * steps_per_epoch(train_loader)
    try:
        with progress(f"train {settings.arch} on {subset.name}", steps, "steps", show_progress) as bar:
            network: nn.Module = torch.compile(model) if settings.compile else model  # type: ignore[assignment]
            fit = Fit(network, make_optimizer(model, protocol), train_loader, compute, plan, curve, bar)
            fit.run()
            last = curve.last
    finally:
        train_loader.close()
        val_loader.close()
    return EvaluationResult(
        top1=last.top1,
        top5=last.top5,
        top1_best=curve.best,
        per_class=last.per_class,
        curve=tuple(curve.entries),
        epochs=protocol.epochs,
        steps=steps,
        seconds=time.monotonic() - start,
        train_seconds=fit.elapsed(),
        **_described(stored, settings, size, compute),
        loader=train_loader.engine,
    )


def _described(stored: Manifest, settings: EvaluateSettings, size: int, compute: Compute) -> dict[str, Any]:
    """What was trained on what, for the result."""
    return {
        "images": len(stored.ids),
        "image_bytes": stored.image_bytes,
        "label_bytes": len(stored.ids) * hard_label_bytes(len(stored.classes)),
        "dataset": stored.dataset,
        "arch": settings.arch,
        "protocol": settings.protocol.name,
        "batch_size": settings.protocol.batch_for(len(stored.ids)),
        "image_size": size,
        "augment": settings.augment,
        "seed": settings.seed,
        **compute.told(),
    }


def open_loaders(
    subset: Path, val: Path, stored: Manifest, settings: EvaluateSettings, size: int
) -> tuple[EpochLoader, EpochLoader]:
    """Training views of the subset (its hints followed, unless told otherwise) and validation views of `val`."""
    protocol = settings.protocol
    hints = stored.hints if settings.augment == "method" else {}
    view = TrainView(size, (protocol.crop_scale_min, 1.0), flip=protocol.flip, tile_grid=_tile_grid(hints))
    train_loader = open_loader(
        subset,
        view,
        batch_size=protocol.batch_for(len(stored.ids)),
        seed=derive_seed(settings.seed, "training"),
        shuffle=True,
        engine=settings.loader,
        workers=settings.loader_workers,
    )
    val_view = EvalView(size, round(size * protocol.validate_resize))
    return train_loader, open_loader(val, val_view, batch_size=VALIDATION_BATCH, workers=settings.loader_workers)


class Curve:
    """Validates at the protocol's epochs and keeps one entry per epoch."""

    def __init__(
        self, model: nn.Module, loader: EpochLoader, num_classes: int, compute: Compute, protocol: Protocol
    ) -> None:
        self.model, self.loader, self.num_classes = model, loader, num_classes
        self.compute, self.protocol = compute, protocol
        self.entries: list[dict[str, Any]] = []
        self._last: Accuracy | None = None

    @property
    def last(self) -> Accuracy:
        """Accuracy of the last epoch; measured again when a finished run was resumed."""
        if self._last is None:
            self._last = measure_accuracy(self.model, self.loader, self.num_classes, self.compute)
        return self._last

    @property
    def best(self) -> float:
        """Best top-1 over all validations in percent; shown, never ranked."""
        return max(float(entry["top1"]) for entry in self.entries if entry["top1"] is not None)

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        """Nothing to keep per batch."""

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        """Validate where the protocol says so."""
        entry: dict[str, Any] = {"epoch": epoch, "lr": lr, "loss": loss, "top1": None}
        if self.protocol.validated(epoch):
            self._last = measure_accuracy(self.model, self.loader, self.num_classes, self.compute)
            entry["top1"] = self._last.top1
        self.entries.append(entry)

    def state(self) -> dict[str, Any]:
        """The curve so far."""
        return {"entries": self.entries}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the curve of a checkpoint."""
        self.entries = list(state["entries"])


def learning_rate(protocol: Protocol, epoch: int) -> float:
    """Per-epoch rate: 0.5 lr (1 + cos(pi epoch / epochs)), or `lr` throughout."""
    if protocol.schedule == "constant":
        return protocol.lr
    return 0.5 * protocol.lr * (1 + math.cos(math.pi * epoch / protocol.epochs))


def make_optimizer(model: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    """AdamW that decays weight matrices only, or SGD that decays every parameter, as the benchmark's code does."""
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=protocol.lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay
        )
    return torch.optim.AdamW(decay_weights_only(model, protocol.weight_decay), lr=protocol.lr, fused=True)


def check_same_classes(stored: Manifest, validation: Manifest, subset: Path, val: Path) -> None:
    """Refuse a validation set whose labels mean something else.

    Raises:
        ConfigError: the first class that differs, or the two counts.
    """
    pairs = zip(stored.classes, validation.classes, strict=False)
    for label, (left, right) in enumerate(pairs):
        if left != right:
            raise ConfigError(
                f"class {label} is '{left}' in {subset} but '{right}' in {val}; use sets of equal classes"
            )
    if len(stored.classes) != len(validation.classes):
        counts = f"{subset} has {len(stored.classes)} classes, {val} has {len(validation.classes)}"
        raise ConfigError(f"{counts}; use sets of equal classes")


def stored_side(subset: Path) -> int:
    """Side of a subset of equal square images in pixels; 224 where sizes differ."""
    with BetonFile(subset) as beton:
        sides = {int(side) for sides in (beton.heights, beton.widths) for side in (sides.min(), sides.max())}
    return sides.pop() if len(sides) == 1 else DEFAULT_IMAGE_SIZE


def hard_label_bytes(num_classes: int) -> int:
    """Whole bytes that name one of `num_classes` classes."""
    return max(1, math.ceil(math.log2(num_classes) / 8)) if num_classes > 1 else 1


def _tile_grid(hints: dict[str, Any]) -> int:
    return int(hints.get("tile_grid", 1))


def _identity(stored: Manifest, val: Manifest, settings: EvaluateSettings, size: int, compute: Compute) -> str:
    plain = settings.model_dump(exclude={"loader", "loader_workers", "threads", "precision", "image_size"})
    return content_key(
        {
            "subset": stored.content_hash,
            "val": val.content_hash,
            "settings": plain,
            "image_size": size,
            "precision": compute.precision,
            "threads": compute.threads if compute.device.type == "cpu" else None,
        }
    )
