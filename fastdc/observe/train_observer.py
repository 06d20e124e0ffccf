"""Training of the observer, unless its record already covers the request."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fastdc.beton import Manifest, describe_beton
from fastdc.beton.missing_manifest import one_use
from fastdc.common.errors import CheckpointError, ConfigError
from fastdc.common.keys import content_key, derive_seed
from fastdc.common.locks import locked
from fastdc.common.log import log_message, progress, progress_shown
from fastdc.loader import TrainView, open_loader
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS, set_aside
from fastdc.nn.device import Compute, choose_compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import run_fit, steps_per_epoch
from fastdc.nn.fit_plan import FitPlan
from fastdc.nn.models import build_model, make_sgd
from fastdc.nn.weights import build_from, read_weights, save_weights
from fastdc.nn.weights_facts import Facts
from fastdc.observe.choose_observer import choose_observer, observer_folder
from fastdc.observe.dynamics_log import WEIGHTS_NAME, Observation, commit, load_observation
from fastdc.observe.dynamics_recorder import DynamicsRecorder
from fastdc.observe.final_pass import final_pass
from fastdc.observe.observer_config import ObserverConfig
from fastdc.observe.record_needs import WHOLE_SCHEDULE, ObserverNeeds
from fastdc.observe.tdds_log import TddsRecorder, remove_rolling

CHECKPOINT_NAME, FOLLOWING_CHECKPOINT_NAME = "checkpoint.pt", "checkpoint_tdds.pt"


@one_use()
def observe(
    train: Path,
    workdir: Path,
    config: ObserverConfig | None = None,
    *,
    needs: ObserverNeeds | None = None,
    stop_after: int | None = None,
    show_progress: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> tuple[Observation, ...]:
    """Record the dynamics of every training image in `config.runs` trainings on the full set; cached by content.

    Args:
        train: the full training set.
        workdir: folder of results; each run gets a folder `workdir/observers/ARCH-KEY`.
        config: training settings; None takes those of `choose_observer`.
        needs: required parts of the record; None requires `stop_after` epochs of the log.
        stop_after: required epochs, at most `config.epochs`; None for the whole schedule. Ignored if `needs` is given.
        show_progress: whether to report progress on stderr.
        checkpoint_seconds: time between two checkpoints.

    Returns:
        One record per run, which covers the needs.

    Raises:
        FastDCError: see `complete_records`.
    """
    if stop_after is not None and stop_after < 1:
        raise ConfigError(f"stop_after={stop_after}: expected at least 1 epoch")
    config = config or choose_observer(train, describe_beton(train).content_hash, workdir)
    needs = needs or ObserverNeeds(stop_after or WHOLE_SCHEDULE)
    with progress_shown(show_progress):
        return complete_records(train, workdir, config, needs, checkpoint_seconds=checkpoint_seconds)


def complete_records(
    train: Path,
    workdir: Path,
    config: ObserverConfig,
    needs: ObserverNeeds,
    *,
    for_teacher: bool = False,
    extra: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> tuple[Observation, ...]:
    """Return the record of each run of an observer after training what `needs` lacks.

    A log that is long enough is returned at once. One that is too short is continued from its checkpoint, bit-equal on
    CPU to an uninterrupted run. At the end of the schedule the weights are kept, and the final pass is made if needed.

    Args:
        for_teacher: whether to train the first run only, whose weights a teacher takes.
        extra: whether the observer is an extra teacher, which must not serve requests that name no observer.

    Raises:
        ConfigError: the architecture, precision or device is unknown or unavailable.
        MethodError: the final pass is needed, and the network has no linear layer.
        DivergedError: a loss became NaN or infinite.
        BetonError, LoaderError, ManifestError: the training set or an earlier record is damaged.
    """
    manifest, config = describe_beton(train), config.resolved()
    records = []
    for run in range(1 if for_teacher else config.runs):
        folder = observer_folder(workdir, manifest.content_hash, config, run)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):  # two sweeps that need one observer train it once
            record = load_observation(folder)
            # An extra teacher that methods now use counts as started now, so it does not replace their first observer.
            if record is not None and record.extra and not extra:
                record = replace(record, extra=False, started=time.time())
                commit(record)
            if record is None or not record.serves(needs, config.epochs):
                fresh = record is None
                record = record or new_record(folder, manifest, config, run, extra)
                session = Session(train, record, config, record.missing(needs, config.epochs), checkpoint_seconds)
                record = _run_session(session, fresh)
        records.append(record)
    return tuple(records)


@dataclass(frozen=True)
class Session:
    """The part of one run that a single call of `observe` trains."""

    train: Path
    record: Observation
    config: ObserverConfig
    needs: ObserverNeeds
    checkpoint_seconds: float

    @property
    def follows(self) -> bool:
        """Return whether the training keeps TDDS's distances.

        They need a training from its first epoch on, and continue once begun. If the log is longer than the distances,
        a training without them got further, and serves all other needs.
        """
        return self.needs.tdds != 0 or 0 < self.record.tdds_epochs == self.record.epochs

    @property
    def only_the_end(self) -> bool:
        """Return whether the log is complete, so that only the weights or the final pass are missing."""
        whole_log = self.record.epochs >= self.config.epochs
        return whole_log and not (self.needs.epochs or self.needs.tdds)

    @property
    def trained(self) -> bool:
        """Return whether only the final pass is missing, which the kept weights can make without training."""
        return self.only_the_end and not self.needs.weights and self.record.weights is not None

    @property
    def checkpoint(self) -> Path:
        """Return the checkpoint's path; trainings with and without TDDS's distances cannot share a checkpoint."""
        return self.record.folder / (FOLLOWING_CHECKPOINT_NAME if self.follows else CHECKPOINT_NAME)


def new_record(folder: Path, manifest: Manifest, config: ObserverConfig, run: int, extra: bool = False) -> Observation:
    """Return a record without epochs for a run that starts now."""
    identity = config.identity(manifest.content_hash, run)
    return Observation(folder, len(manifest.ids), (), identity, config.runs, time.time(), {}, extra=extra)


def _run_session(session: Session, fresh: bool) -> Observation:
    """Train what is missing; start over if the checkpoint is damaged."""
    if session.only_the_end and not (fresh or session.trained or session.checkpoint.exists()):
        log_message(
            f"{session.record.folder}: its weights were not kept and its checkpoint is gone; the training is repeated, "
            "the log stays"
        )
    try:
        return _from_weights(session) if session.trained else _train(session)
    except CheckpointError as error:
        log_message(f"{error.args[0].partition(';')[0]}; this observer starts over")
        set_aside(session.checkpoint)  # whole epochs stay in the log unchanged
        return _train(session)


def _train(session: Session) -> Observation:
    """Train the missing epochs, then make the final pass if needed."""
    train, record, config = session.train, session.record, session.config
    seed = derive_seed(config.seed, "observer", run=record.identity["run"])
    compute = _compute(session)
    manifest = describe_beton(train)
    num_classes = len(manifest.classes)
    model = build_model(config.arch, num_classes, config.image_size, seed).to(compute.device)
    optimizer = make_sgd(model, config.lr, config.momentum, config.weight_decay, compute.precision)
    trajectory = TddsRecorder(record.folder, record.num_samples, num_classes) if session.follows else None
    recorder = DynamicsRecorder(replace(record, trained_with=compute.facts()), trajectory)
    needed = session.needs.last_epoch(config.epochs)
    view = TrainView(config.image_size)
    with open_loader(
        train, view, batch_size=config.batch_size, seed=seed, shuffle=True, device=compute.device
    ) as loader:
        plan = _plan(session, needed, steps_per_epoch(loader), seed)
        with progress(f"observe {train.name}", needed * plan.steps, "steps", inner=plan.steps) as bar:
            # The recorder reads the fit's epoch and clock, so each refers to the other.
            recorder.fit = Fit(model, optimizer, compute, plan, recorder, bar)
            run_fit(recorder.fit, loader)
    if session.follows and needed == config.epochs:
        remove_rolling(record.folder)
    if needed == config.epochs:  # saved before the final pass, which a killed run can then make without training
        save_weights(record.folder / WEIGHTS_NAME, model, Facts(config.arch, manifest.classes, config.image_size))
    if session.needs.final:
        final_pass(train, record.folder, model, config, compute, outputs=session.needs.outputs)
    return recorder.record


def _from_weights(session: Session) -> Observation:
    """Make the final pass with the kept weights, without training."""
    record, config = session.record, session.config
    assert record.weights is not None, "the session is trained"
    compute = _compute(session)
    model, _ = build_from(record.weights, read_weights(record.weights), config.arch, config.image_size)
    model.to(compute.device)
    final_pass(session.train, record.folder, model, config, compute, outputs=session.needs.outputs)
    return record


def _compute(session: Session) -> Compute:
    """Return the device that this observer trains on.

    Raises:
        ConfigError: this machine has no such device.
    """
    config = session.config
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"{session.record.folder}: this observer trains on cuda, this machine has cpu; train it there, or choose "
            "another (device=auto)"
        )
    return choose_compute(config.precision, config.threads, config.device)


def _plan(session: Session, needed: int, steps: int, seed: int) -> FitPlan:
    config = session.config
    return FitPlan(
        epochs=needed,
        steps=steps,
        # The schedule's length, not `needed`: a training that stops early is a prefix of the whole one.
        learning_rate=lambda epoch, step, steps: cosine(config, epoch * steps + step, config.epochs * steps),
        loss=nn.functional.cross_entropy,
        seed=seed,
        checkpoint=session.checkpoint,
        identity=content_key(session.record.identity),
        checkpoint_seconds=session.checkpoint_seconds,
        checkpoint_epochs=session.follows,
    )


def cosine(config: ObserverConfig, step: int, steps: int) -> float:
    """Return the learning rate at `step`: half a cosine wave from `lr` at step 0 to `lr_min` at `steps`."""
    return config.lr_min + 0.5 * (config.lr - config.lr_min) * (1 + math.cos(math.pi * step / steps))
