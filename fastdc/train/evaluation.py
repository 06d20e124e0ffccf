"""Evaluation: train a network from scratch on a compressed set, and measure it on the validation set."""

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.beton.missing_manifest import one_use
from fastdc.common.errors import DivergedError
from fastdc.common.log import progress, progress_shown
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS
from fastdc.nn.device import choose_compute
from fastdc.nn.fit_loop import run_fits, steps_per_epoch
from fastdc.nn.overlap import overlaps
from fastdc.train.data_pair import open_pair
from fastdc.train.evaluate_settings import EvaluateSettings, EvaluationResult
from fastdc.train.evaluation_request import EvaluationRequest
from fastdc.train.labels.source import LabelSource
from fastdc.train.network_training import make_training
from fastdc.train.streams import OneOf, open_training_loader, open_val_loader, pooled, training_view

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher


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
    given = teacher, labels_root, allow_missing_classes, (checkpoint,), checkpoint_seconds, (name,)
    request = EvaluationRequest(subset, val, (settings,), *given)
    with progress_shown(show_progress):
        (result,) = run_evaluation(request)
    if isinstance(result, DivergedError):
        raise result
    return result


@one_use()
def run_evaluation(request: EvaluationRequest) -> list[EvaluationResult | DivergedError]:
    """Train the networks of a request side by side, so that every image is decoded once, and measure each.

    Each result is that of `evaluate` with the same settings, bit-equal on CPU; `train_seconds` is counted per network.
    Networks with one seed share their order of samples. Different seeds do so only with `order=shared` in the protocol
    or with stored labels.

    Returns:
        For each of the settings, its result or the error with which it diverged; a diverged run does not affect others.

    Raises:
        ConfigError: class lists differ, or as in `evaluate`.
        DivergedError: a teacher's logit to be stored is NaN or infinite.
        OutputError, BetonError, LoaderError, ManifestError: as in `evaluate`.
    """
    start, settings = time.monotonic(), request.settings
    pair = open_pair(request.subset, request.val, request.allow_missing_classes)
    compute = choose_compute(settings[0].precision, settings[0].threads)
    with (
        open_training_loader(pair, settings, compute) as loader,
        open_val_loader(pair, settings[0], compute) as val_loader,
        closing(LabelSource(pair.stored, compute, request.teacher, request.labels_root)) as source,
    ):
        steps = steps_per_epoch(loader)
        labellings = [
            source.labelling(each, training_view(pair, each), OneOf(loader, number), pair.views(each))
            for number, each in enumerate(settings)
        ]
        trainings = [
            make_training(request, number, pair, compute, val_loader, steps, labelling)
            for number, labelling in enumerate(labellings)
        ]
        what = settings[0].arch if len(settings) == 1 else f"{len(settings)} networks"
        total = sum(training.fit.plan.epochs * steps for training in trainings)
        label = f"train {what} on {request.subset.name}"
        with progress(label, total, "steps", inner=steps * len(settings)) as bar:
            for training in trainings:
                training.fit.progress = bar
            fits, side = [training.fit for training in trainings], max(map(pair.side, settings))
            faults = run_fits(fits, pooled(loader, pair, settings[0]), overlaps(len(fits), side))
        return [
            fault or training.result(loader.engine, time.monotonic() - start)
            for training, fault in zip(trainings, faults, strict=True)
        ]
