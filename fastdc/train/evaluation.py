"""Evaluation: train a network from scratch on a compressed set, and measure it on the validation set."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.beton.hints import METHOD, tile_crop
from fastdc.beton.missing_manifest import one_use
from fastdc.common.errors import ConfigError, DivergedError
from fastdc.common.files import check_not_input
from fastdc.common.keys import derive_seed
from fastdc.common.log import progress
from fastdc.loader import Batch, EpochLoader, EvalView, SharedLoader, TrainView, ViewRequest, open_loader, open_shared
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS
from fastdc.nn.device import Compute, choose_compute
from fastdc.nn.fit import Epochs, SharedEpochs, fit_together, steps_per_epoch
from fastdc.train.evaluate_settings import EvaluateSettings, EvaluationResult
from fastdc.train.labels.batch_pool import PooledEpochs, PooledSharedEpochs
from fastdc.train.labels.layout import LabelLayout
from fastdc.train.labels.source import LabelSource, check_source
from fastdc.train.labels.targets import stream_seed
from fastdc.train.network_training import Pair, make_training, open_pair, watch

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher

VALIDATION_BATCH = 256
"""Images per validation batch. It matters for speed only, because BatchNorm's statistics are fixed in eval mode."""


@one_use()
def evaluate(
    subset: Path,
    val: Path,
    settings: EvaluateSettings,
    *,
    teacher: "Teacher | None" = None,
    labels_root: Path | None = None,
    allow_missing_classes: bool = False,
    checkpoint: Path | None = None,
    show_progress: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    name: str = "",
) -> EvaluationResult:
    """Train a network on `subset` under one protocol, and measure its accuracy on `val`.

    On CPU, equal settings give bit-equal accuracy. It does not depend on the loader, on the number of its workers, or
    on whether the run was killed and resumed.

    Args:
        subset, val: betons with the same classes in the same order.
        settings: the protocol and how to run it.
        teacher: network that labels images for a soft protocol; a hard protocol ignores it.
        labels_root: folder of stored labels (`WORKDIR/labels`), with a subfolder for each set of labels. Missing labels
            are made. Needed for labels=stored only.
        allow_missing_classes: whether to match classes by name; `val` may lack some, whose accuracy is None.
        checkpoint: file from which a killed run resumes; the caller removes it.
        show_progress: whether to report progress on stderr.
        checkpoint_seconds: time between two checkpoints.
        name: name of the run in its events (`fastdc.track`).

    Raises:
        ConfigError: class lists differ, the architecture is unknown, or the device lacks the precision. Or a soft
            protocol has no teacher or no folder for stored labels, or the teacher has other classes.
        DivergedError: a loss, or a teacher's logit to be stored, is NaN or infinite.
        OutputError: `checkpoint` is the subset or the validation set, or labels do not fit on the disk.
        BetonError, LoaderError, ManifestError: a file is damaged.
    """
    start = time.monotonic()
    if checkpoint is not None:
        check_not_input(checkpoint, (subset, val))
    teacher = teacher if settings.protocol.soft else None  # not part of a hard training's identity
    check_source(settings.protocol, teacher, labels_root)
    pair = open_pair(subset, val, allow_missing_classes)
    compute = choose_compute(settings.precision, settings.threads)
    source = LabelSource(pair.stored, compute, teacher, labels_root, show_progress)
    with (
        open_training_loader(pair, settings, compute) as loader,
        open_val_loader(pair, settings, compute) as val_loader,
        closing(source),
    ):
        labelling = source.labelling(settings, training_view(pair, settings), loader, pair.views(settings))
        steps = steps_per_epoch(loader)
        training = make_training(
            pair, settings, compute, val_loader, steps, checkpoint, checkpoint_seconds, labelling, teacher, name
        )
        total = training.fit.plan.epochs * steps
        with progress(f"train {settings.arch} on {subset.name}", total, "steps", show_progress, steps) as bar:
            watch([training], bar)
            training.fit.run(_pooled(loader, pair, settings))
            return training.result(loader.engine, time.monotonic() - start)


@one_use()
def evaluate_together(
    subset: Path,
    val: Path,
    settings: Sequence[EvaluateSettings],
    *,
    teacher: "Teacher | None" = None,
    labels_root: Path | None = None,
    allow_missing_classes: bool = False,
    checkpoints: Sequence[Path | None] = (),
    show_progress: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    names: Sequence[str] = (),
) -> list[EvaluationResult | DivergedError]:
    """Train several networks on one subset side by side, so that every image is decoded once, and measure each.

    Each result is that of `evaluate` with the same settings, bit-equal on CPU; `train_seconds` is counted per network.
    Networks with one seed share their order of samples. Different seeds do so only with `order=shared` in the protocol
    or with stored labels.

    Args:
        subset, val: as in `evaluate`.
        settings: one per network; they differ only in `arch`, `augment` and, where the order is shared, `seed`.
        teacher, labels_root, allow_missing_classes: as in `evaluate`.
        checkpoints: one file per network, or none at all.
        show_progress, checkpoint_seconds: as in `evaluate`.
        names: one per network as in `evaluate`, or none at all.

    Returns:
        For each of `settings`, its result or the error with which it diverged; a diverged run does not affect others.

    Raises:
        ConfigError: the settings cannot share a stream, or as in `evaluate`.
        DivergedError: a teacher's logit to be stored is NaN or infinite.
        OutputError, BetonError, LoaderError, ManifestError: as in `evaluate`.
    """
    start = time.monotonic()
    check_shareable(settings)
    files = list(checkpoints) or [None] * len(settings)
    for file in filter(None, files):
        check_not_input(file, (subset, val))
    teacher = teacher if settings[0].protocol.soft else None
    check_source(settings[0].protocol, teacher, labels_root)
    pair = open_pair(subset, val, allow_missing_classes)
    compute = choose_compute(settings[0].precision, settings[0].threads)
    source = LabelSource(pair.stored, compute, teacher, labels_root, show_progress)
    with (
        open_shared_loader(pair, settings, compute) as stream,
        open_val_loader(pair, settings[0], compute) as val_loader,
        closing(source),
    ):
        steps = steps_per_epoch(stream)
        labellings = [
            source.labelling(each, training_view(pair, each), OneOf(stream, k), pair.views(each))
            for k, each in enumerate(settings)
        ]
        trainings = [
            make_training(pair, each, compute, val_loader, steps, file, checkpoint_seconds, labelling, teacher, name)
            for each, file, labelling, name in zip(settings, files, labellings, names or [""] * len(files), strict=True)
        ]
        total = sum(training.fit.plan.epochs * steps for training in trainings)
        inner = steps * len(trainings)
        with progress(f"train {len(trainings)} networks on {subset.name}", total, "steps", show_progress, inner) as bar:
            watch(trainings, bar)
            pooled = _pooled_shared(stream, pair, settings[0])
            faults = fit_together([training.fit for training in trainings], pooled)
        return [
            fault or training.result(stream.engine, time.monotonic() - start)
            for training, fault in zip(trainings, faults, strict=True)
        ]


def check_shareable(settings: Sequence[EvaluateSettings]) -> None:
    """Check that networks can share one stream and still give the results of separate runs.

    Raises:
        ConfigError: there is no network, or a setting differs that must not.
    """
    if not settings:
        raise ConfigError("no networks to train together, expected at least one")
    first = settings[0]
    free = {"arch", "augment"} | ({"seed"} if first.protocol.shares_order else set())
    for other in settings[1:]:
        for name in set(EvaluateSettings.model_fields) - free:
            if getattr(first, name) == getattr(other, name):
                continue
            hint = (
                "; seeds share a stream under a protocol with order=shared, or stored labels" if name == "seed" else ""
            )
            raise ConfigError(
                f"networks trained together differ in {name} ({getattr(first, name)} and {getattr(other, name)}), "
                f"expected equal values{hint}"
            )


def open_training_loader(pair: Pair, settings: EvaluateSettings, compute: Compute) -> EpochLoader:
    """Open the subset with its training views, which follow its hints unless `augment` says otherwise.

    Raises:
        ConfigError: the loader is `device` and there is no GPU. It would be slow there, and its pixels, which may
            differ by one level, would change results.
    """
    _check_loader(settings, compute)
    return open_loader(
        pair.subset,
        training_view(pair, settings),
        batch_size=settings.protocol.batch_for(len(pair.stored.ids)),
        seed=_stream_seed(settings),
        order_seed=_order_seed(settings),
        shuffle=True,
        views=pair.views(settings),
        engine=settings.loader,
        workers=settings.loader_workers,
        device=compute.device,
    )


def open_shared_loader(pair: Pair, settings: Sequence[EvaluateSettings], compute: Compute) -> SharedLoader:
    """Open one stream with the training views of several networks.

    Raises:
        ConfigError: the networks take different numbers of views per image and epoch, so their steps differ.
    """
    first, views = settings[0], sorted({pair.views(each) for each in settings})
    _check_loader(first, compute)
    if len(views) > 1:
        raise ConfigError(
            f"networks trained together take {' and '.join(map(str, views))} views of an image in an epoch, expected "
            "one number for all; train them one by one (together: never)"
        )
    return open_shared(
        pair.subset,
        [ViewRequest(training_view(pair, each), _stream_seed(each)) for each in settings],
        batch_size=first.protocol.batch_for(len(pair.stored.ids)),
        order_seed=_order_seed(first),
        shuffle=True,
        views=views[0],
        engine="auto" if first.loader == "device" else first.loader,  # shared streams have no device engine
        workers=first.loader_workers,
        device=compute.device,
    )


def open_val_loader(pair: Pair, settings: EvaluateSettings, compute: Compute) -> EpochLoader:
    """Open the validation set at the protocol's resize."""
    size = pair.side(settings)
    view = EvalView(size, round(size * settings.protocol.validate_resize))
    return open_loader(
        pair.val, view, batch_size=VALIDATION_BATCH, workers=settings.loader_workers, device=compute.device
    )


def _check_loader(settings: EvaluateSettings, compute: Compute) -> None:
    if settings.loader == "device" and compute.device.type == "cpu":
        raise ConfigError("loader device: needs a CUDA device, found only the CPU; use auto, ffcv or resident")


def training_view(pair: Pair, settings: EvaluateSettings) -> TrainView:
    """Return the training view: the protocol's crop, inside the tiles that the hints or `augment` name.

    The protocol's share of whole mosaics applies where the hints are followed and do not give one.
    """
    protocol, hints = settings.protocol, pair.stored.hints
    rule = tile_crop(settings.augment, hints)
    if settings.augment == METHOD and rule.grid > 1 and "tile_whole" not in hints:
        rule = rule._replace(whole=protocol.whole_share(rule.grid))
    return TrainView(
        pair.side(settings),
        (protocol.crop_scale_min, 1.0),
        flip=protocol.flip,
        tile_grid=rule.grid,
        tile_whole=rule.whole,
        tile_align=rule.align,
        tile_scale=rule.scale,
    )


def _stream_seed(settings: EvaluateSettings) -> int:
    return stream_seed(settings.protocol, settings.seed)


def _order_seed(settings: EvaluateSettings) -> int:
    """Return the seed of the sample order: the stream's own, or one that all training seeds share."""
    shared = settings.protocol.order == "shared" and settings.protocol.labels != "stored"
    return derive_seed(0, "shared order") if shared else _stream_seed(settings)


class OneOf:
    """Source of one training's batches from a shared stream."""

    def __init__(self, stream: SharedLoader, number: int) -> None:
        self.stream, self.number = stream, number

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """See `EpochLoader.epoch`."""
        return (batches[self.number] for batches in self.stream.epoch(epoch, start))


def _pooled(loader: EpochLoader, pair: Pair, settings: EvaluateSettings) -> Epochs:
    """Return a training's source of batches: the loader itself, or a pool of its batches if labels are pruned."""
    layout = _pool_of(pair, settings)
    return loader if layout is None else PooledEpochs(loader, layout)


def _pooled_shared(stream: SharedLoader, pair: Pair, settings: EvaluateSettings) -> SharedEpochs:
    layout = _pool_of(pair, settings)
    return stream if layout is None else PooledSharedEpochs(stream, layout)


def _pool_of(pair: Pair, settings: EvaluateSettings) -> LabelLayout | None:
    protocol = settings.protocol
    if protocol.labels != "stored" or protocol.label_ratio == 1:
        return None
    return LabelLayout(protocol, len(pair.stored.ids), len(pair.stored.classes), pair.views(settings))
