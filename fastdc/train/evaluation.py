"""Evaluation: train a network from scratch on a compressed set, and measure it on the validation set."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.beton.missing_manifest import one_use
from fastdc.common.errors import ConfigError, DivergedError
from fastdc.common.log import progress, progress_shown
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS
from fastdc.nn.device import choose_compute
from fastdc.nn.fit_loop import Epochs, JoinedStreams, run_fits, steps_per_epoch
from fastdc.nn.overlap import overlaps
from fastdc.train.data_pair import open_pair
from fastdc.train.evaluate_settings import EvaluateSettings, EvaluationResult
from fastdc.train.evaluation_request import EvaluationRequest, check_alike
from fastdc.train.labels.source import LabelSource
from fastdc.train.network_training import Training, make_training
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
    request = EvaluationRequest(
        subset,
        val,
        (settings,),
        teacher=teacher,
        labels_root=labels_root,
        allow_missing_classes=allow_missing_classes,
        checkpoints=(checkpoint,),
        checkpoint_seconds=checkpoint_seconds,
        names=(name,),
    )
    with progress_shown(show_progress):
        (result,) = run_evaluation(request)
    if isinstance(result, DivergedError):
        raise result
    return result


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
    (results,) = run_evaluations([request])
    return results


@one_use()
def run_evaluations(requests: Sequence[EvaluationRequest]) -> list[list[EvaluationResult | DivergedError]]:
    """Train the networks of several requests side by side, which on a GPU compute at once, and measure each.

    Args:
        requests: their subsets, seeds and networks may differ, and each has a stream of its own. They have one `val`.

    Returns:
        For each request what `run_evaluation` returns.

    Raises:
        ConfigError: there is no request; their `val`, other settings or steps in an epoch differ; or as
            `run_evaluation`.
        DivergedError, OutputError, BetonError, LoaderError, ManifestError: as in `run_evaluation`.
    """
    start = time.monotonic()
    check_alike(requests)
    with ExitStack() as stack:
        parts = [stack.enter_context(_opened(request, len(requests))) for request in requests]
        _check_same_steps(parts)
        trainings = [training for part in parts for training in part.trainings]
        fits = [training.fit for training in trainings]
        streams = [part.stream for part in parts]
        side = max(training.pair.side(training.settings) for training in trainings)
        total = sum(fit.plan.epochs * fit.plan.steps for fit in fits)
        with progress(_label(requests), total, "steps", inner=sum(fit.plan.steps for fit in fits)) as bar:
            for fit in fits:
                fit.progress = bar
            stream = streams[0] if len(streams) == 1 else JoinedStreams(streams)
            faults = iter(run_fits(fits, stream, overlaps(len(fits), side)))
        seconds = time.monotonic() - start
        return [
            [next(faults) or training.result(part.engine, seconds) for training in part.trainings] for part in parts
        ]


@dataclass(frozen=True)
class _Part:
    """Trainings of one request with their stream.

    Attributes:
        visits, batch: visits of an epoch, and how many a step takes.
        engine: engine of the loader.
    """

    trainings: list[Training]
    stream: Epochs
    visits: int
    batch: int
    engine: str


@contextmanager
def _opened(request: EvaluationRequest, requests: int) -> Iterator[_Part]:
    """Open the data of one of several requests and build its trainings, without starting them."""
    settings = request.settings
    pair = open_pair(request.subset, request.val, request.allow_missing_classes)
    compute = choose_compute(settings[0].precision, settings[0].threads)
    with (
        open_training_loader(pair, settings, compute, requests) as loader,
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
        stream = pooled(loader, pair, settings[0])
        yield _Part(trainings, stream, loader.num_samples, loader.batch_size, loader.engine)


def _check_same_steps(parts: Sequence[_Part]) -> None:
    found = sorted({(part.visits, part.batch) for part in parts})
    if len(found) > 1:
        listed = " and ".join(f"{visits} in steps of {batch}" for visits, batch in found)
        raise ConfigError(
            f"sets trained together have epochs of {listed} images, expected one length; train them one by one "
            "(together: never)"
        )


def _label(requests: Sequence[EvaluationRequest]) -> str:
    """Return what the progress line names."""
    settings = [each for request in requests for each in request.settings]
    what = settings[0].arch if len(settings) == 1 else f"{len(settings)} networks"
    others = f" and {len(requests) - 1} more" if len(requests) > 1 else ""
    return f"train {what} on {requests[0].subset.name}{others}"
