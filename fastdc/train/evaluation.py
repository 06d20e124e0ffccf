"""Evaluation: train a network from scratch on a compressed set, measure it on the validation set."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastdc.errors import ConfigError, DivergedError
from fastdc.files import check_not_input
from fastdc.loader import EpochLoader, EvalView, SharedLoader, TrainView, ViewRequest, open_loader, open_shared
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS
from fastdc.nn.device import Compute, choose_compute
from fastdc.nn.fit import fit_together, steps_per_epoch
from fastdc.progress import progress
from fastdc.seeding import derive_seed
from fastdc.train.settings import EvaluateSettings, EvaluationResult
from fastdc.train.training import Pair, make_training, open_pair, watch

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
    pair = open_pair(subset, val)
    compute = choose_compute(settings.precision, settings.threads)
    with (
        open_training_loader(pair, settings, compute) as loader,
        open_val_loader(pair, settings, compute) as val_loader,
    ):
        steps = steps_per_epoch(loader)
        training = make_training(pair, settings, compute, val_loader, steps, checkpoint, checkpoint_seconds)
        total = settings.protocol.epochs * steps
        with progress(f"train {settings.arch} on {subset.name}", total, "steps", show_progress) as bar:
            watch([training], bar)
            training.fit.run(loader)
            return training.result(loader.engine, time.monotonic() - start)


def evaluate_together(
    subset: Path,
    val: Path,
    settings: Sequence[EvaluateSettings],
    *,
    checkpoints: Sequence[Path | None] = (),
    show_progress: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> list[EvaluationResult | DivergedError]:
    """Accuracy of several networks on one subset, trained side by side from one stream: every image is decoded once.

    Each result is that of `evaluate` with the same settings, on CPU bit for bit; `train_seconds` is each one's own.
    Networks of one seed see one order of samples anyway; of several seeds only with `order=shared` in the protocol.

    Args:
        subset, val: as in `evaluate`.
        settings: one per network; they differ in `arch`, `seed` and `augment` only.
        checkpoints: one file per network, or none at all.

    Returns:
        In the order of `settings`, each one's result, or how it diverged; the others are not disturbed by that.

    Raises:
        ConfigError: the settings cannot share a stream; or as `evaluate`.
        OutputError, BetonError, LoaderError, ManifestError: as `evaluate`.
    """
    start = time.monotonic()
    check_shareable(settings)
    files = list(checkpoints) or [None] * len(settings)
    for file in filter(None, files):
        check_not_input(file, (subset, val))
    pair = open_pair(subset, val)
    compute = choose_compute(settings[0].precision, settings[0].threads)
    with (
        open_shared_loader(pair, settings, compute) as stream,
        open_val_loader(pair, settings[0], compute) as val_loader,
    ):
        steps = steps_per_epoch(stream)
        trainings = [
            make_training(pair, each, compute, val_loader, steps, file, checkpoint_seconds)
            for each, file in zip(settings, files, strict=True)
        ]
        total = sum(training.fit.plan.epochs * steps for training in trainings)
        with progress(f"train {len(trainings)} networks on {subset.name}", total, "steps", show_progress) as bar:
            watch(trainings, bar)
            faults = fit_together([training.fit for training in trainings], stream)
        return [
            fault or training.result(stream.engine, time.monotonic() - start)
            for training, fault in zip(trainings, faults, strict=True)
        ]


def check_shareable(settings: Sequence[EvaluateSettings]) -> None:
    """Refuse networks that could not share one stream and still give the results of separate runs.

    Raises:
        ConfigError: names the first setting that differs.
    """
    if not settings:
        raise ConfigError("no networks to train together, expected at least one")
    first = settings[0]
    free = {"arch", "augment"} | ({"seed"} if first.protocol.order == "shared" else set())
    for other in settings[1:]:
        for name in set(EvaluateSettings.model_fields) - free:
            if getattr(first, name) == getattr(other, name):
                continue
            hint = "; seeds share a stream under a protocol with order=shared" if name == "seed" else ""
            raise ConfigError(
                f"networks trained together differ in {name} ({getattr(first, name)} and {getattr(other, name)}), "
                f"expected equal values{hint}"
            )


def open_training_loader(pair: Pair, settings: EvaluateSettings, compute: Compute) -> EpochLoader:
    """Training views of the subset: its hints followed, unless told otherwise.

    Raises:
        ConfigError: augmentation on the device without a GPU, where it is slow and, a level off, changes results.
    """
    _check_loader(settings, compute)
    return open_loader(
        pair.subset,
        _training_view(pair, settings),
        batch_size=settings.protocol.batch_for(len(pair.stored.ids)),
        seed=_stream_seed(settings),
        order_seed=_order_seed(settings),
        shuffle=True,
        engine=settings.loader,
        workers=settings.loader_workers,
        device=compute.device,
    )


def open_shared_loader(pair: Pair, settings: Sequence[EvaluateSettings], compute: Compute) -> SharedLoader:
    """The training views of several networks, from one stream."""
    first = settings[0]
    _check_loader(first, compute)
    return open_shared(
        pair.subset,
        [ViewRequest(_training_view(pair, each), _stream_seed(each)) for each in settings],
        batch_size=first.protocol.batch_for(len(pair.stored.ids)),
        order_seed=_order_seed(first),
        shuffle=True,
        engine="auto" if first.loader == "device" else first.loader,
        workers=first.loader_workers,
        device=compute.device,
    )


def open_val_loader(pair: Pair, settings: EvaluateSettings, compute: Compute) -> EpochLoader:
    """Validation views at the protocol's resize."""
    size = pair.side(settings)
    view = EvalView(size, round(size * settings.protocol.validate_resize))
    return open_loader(
        pair.val, view, batch_size=VALIDATION_BATCH, workers=settings.loader_workers, device=compute.device
    )


def _check_loader(settings: EvaluateSettings, compute: Compute) -> None:
    if settings.loader == "device" and compute.device.type == "cpu":
        raise ConfigError("loader device: needs a CUDA device, found only the CPU; use auto, ffcv or resident")


def _training_view(pair: Pair, settings: EvaluateSettings) -> TrainView:
    hints: dict[str, Any] = dict(pair.stored.hints) if settings.augment == "method" else {}
    protocol = settings.protocol
    grid = int(hints.get("tile_grid", 1))
    return TrainView(pair.side(settings), (protocol.crop_scale_min, 1.0), flip=protocol.flip, tile_grid=grid)


def _stream_seed(settings: EvaluateSettings) -> int:
    return derive_seed(settings.seed, "training")


def _order_seed(settings: EvaluateSettings) -> int:
    """Seed of the order of samples: the training's own, or one for all seeds."""
    return _stream_seed(settings) if settings.protocol.order == "own" else derive_seed(0, "shared order")
