"""Training of the observer, unless its record already covers the request."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastdc.beton import Manifest, describe_beton
from fastdc.beton.missing_manifest import one_use
from fastdc.common.errors import CheckpointError, ConfigError
from fastdc.common.keys import content_key, derive_seed
from fastdc.common.locks import locked
from fastdc.common.log import log_message, progress
from fastdc.kernels.scores.dynamics import batch_dynamics
from fastdc.kernels.scores.fields import FIELDS
from fastdc.loader import Batch, TrainView, open_loader
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS, set_aside
from fastdc.nn.device import Compute, choose_compute
from fastdc.nn.fit import Fit, FitPlan, steps_per_epoch
from fastdc.nn.models import build_model
from fastdc.nn.weights import build_from, read_weights, save_weights
from fastdc.nn.weights_facts import Facts
from fastdc.observe.choose_observer import choose_observer, observer_folder
from fastdc.observe.dynamics_log import WEIGHTS_NAME, Observation, append_epoch, commit, load_observation
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
    for_teacher: bool = False,
    extra: bool = False,
    show_progress: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> tuple[Observation, ...]:
    """Record the dynamics of every training image in `config.runs` trainings on the full set; cached by content.

    A log that is long enough is returned at once. One that is too short is continued from its checkpoint, bit-equal on
    CPU to an uninterrupted run. At the end of the schedule the weights are kept, and the final pass is made if needed.

    Args:
        train: the full training set.
        workdir: folder of results; each run gets a folder `workdir/observers/ARCH-KEY`.
        config: training settings; None takes those of `choose_observer`.
        needs: required parts of the record; None requires `stop_after` epochs of the log.
        stop_after: required epochs, at most `config.epochs`; None for the whole schedule. Ignored if `needs` is given.
        for_teacher: whether to train the first run only, whose weights a teacher takes.
        extra: whether the observer is an extra teacher, which must not serve requests that name no observer.
        show_progress: whether to report progress on stderr.
        checkpoint_seconds: time between two checkpoints.

    Returns:
        One record per run, which covers the needs.

    Raises:
        ConfigError: the architecture, precision or device is unknown or unavailable.
        MethodError: the final pass is needed, and the network has no linear layer.
        DivergedError: a loss became NaN or infinite.
        BetonError, LoaderError, ManifestError: the training set or an earlier record is damaged.
    """
    manifest = describe_beton(train)
    config = config or choose_observer(train, manifest.content_hash, workdir)
    config = config.resolved()
    if stop_after is not None and stop_after < 1:
        raise ConfigError(f"stop_after={stop_after}: expected at least 1 epoch")
    needs = needs or ObserverNeeds(stop_after or WHOLE_SCHEDULE)
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
                left = record.missing(needs, config.epochs)
                session = Session(train, record, config, left, show_progress, checkpoint_seconds)
                if session.only_the_end and not (fresh or session.trained or session.checkpoint.exists()):
                    log_message(
                        f"{folder}: its weights were not kept, its checkpoint is gone; trains again, the log stays"
                    )
                try:
                    record = _from_weights(session) if session.trained else _train(session)
                except CheckpointError as error:
                    log_message(f"{error.args[0].partition(';')[0]}; this observer starts over")
                    set_aside(session.checkpoint)  # whole epochs stay in the log unchanged
                    record = _train(session)
        records.append(record)
    return tuple(records)


@dataclass(frozen=True)
class Session:
    """The part of one run that a single call of `observe` trains."""

    train: Path
    record: Observation
    config: ObserverConfig
    needs: ObserverNeeds
    show_progress: bool
    checkpoint_seconds: float

    @property
    def follows(self) -> bool:
        """Return whether the training keeps TDDS's distances.

        They need a training from its first epoch on, and continue once begun. If the log is longer than the distances,
        a training without them got further, and serves all other needs.
        """
        return self.needs.tdds > 0 or 0 < self.record.tdds_epochs == self.record.epochs

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


class DynamicsRecorder:
    """Recorder that collects an epoch's dynamics and appends them to the log when the epoch is complete."""

    def __init__(self, record: Observation, trajectory: TddsRecorder | None = None) -> None:
        self.record, self.trajectory = record, trajectory
        self.fit: Fit | None = None
        self.values = self._empty()

    def _empty(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        # NaN marks samples that the epoch has not seen; `append_epoch` refuses them.
        return np.full((len(FIELDS), self.record.num_samples), np.nan, np.float32)

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        """Record the dynamics of the training-time outputs (of augmented images), as CCS and DeepCore do."""
        outputs, indices = logits.cpu(), batch.indices.numpy()
        batch_dynamics(outputs.numpy(), batch.labels.cpu().numpy(), indices, self.values)
        if self.trajectory is not None:
            assert self.fit is not None
            self.trajectory.batch(self.fit.epoch, outputs, indices)

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        """Append the epoch to the log, then commit it.

        After a kill, an epoch that the log already holds may be trained again from an older checkpoint. The log keeps
        the first version: a subset may depend on it, and a GPU does not repeat it bit for bit.
        """
        if epoch >= self.record.epochs:  # else the log already holds this epoch
            append_epoch(self.record.folder, epoch, self.values)
            seconds = self.fit.elapsed() if self.fit is not None else 0.0
            self.record = replace(self.record, epoch_seconds=(*self.record.epoch_seconds, seconds))
        if self.trajectory is not None:
            self.trajectory.epoch_end(epoch)
            self.record = replace(self.record, tdds_epochs=max(self.record.tdds_epochs, epoch + 1))
        commit(self.record)
        self.values = self._empty()

    def state(self) -> dict[str, Any]:
        """Return the unfinished epoch's values, and the number of whole epochs before it."""
        values = torch.from_numpy(self.values.copy())
        followed = {} if self.trajectory is None else {"trajectory": self.trajectory.state()}
        return {"values": values, "epochs": self.record.epochs, **followed}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the unfinished epoch from a checkpoint.

        Raises:
            CheckpointError: the log holds fewer epochs than when the checkpoint was saved, so epochs would be missing.
        """
        if state["epochs"] > self.record.epochs:
            raise CheckpointError(
                f"{self.record.folder}: the checkpoint follows epoch {state['epochs']}, the log holds "
                f"{self.record.epochs}; move the checkpoint away"
            )
        self.values = state["values"].numpy().copy()
        if self.trajectory is not None:
            assert self.fit is not None
            self.trajectory.restore(state["trajectory"], finished=self.fit.finished)


def new_record(folder: Path, manifest: Manifest, config: ObserverConfig, run: int, extra: bool = False) -> Observation:
    """Return a record without epochs for a run that starts now."""
    identity = config.identity(manifest.content_hash, run)
    return Observation(folder, len(manifest.ids), (), identity, config.runs, time.time(), {}, extra=extra)


def _train(session: Session) -> Observation:
    """Train the missing epochs, then make the final pass if needed."""
    train, record, config = session.train, session.record, session.config
    seed = derive_seed(config.seed, "observer", run=record.identity["run"])
    compute = _compute(session)
    manifest = describe_beton(train)
    num_classes = len(manifest.classes)
    model = build_model(config.arch, num_classes, config.image_size, seed).to(compute.device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    trajectory = TddsRecorder(record.folder, record.num_samples, num_classes) if session.follows else None
    recorder = DynamicsRecorder(replace(record, trained_with=compute.told()), trajectory)
    needed = session.needs.last_epoch(config.epochs)
    view = TrainView(config.image_size)
    with open_loader(
        train, view, batch_size=config.batch_size, seed=seed, shuffle=True, device=compute.device
    ) as loader:
        plan = _plan(session, needed, steps_per_epoch(loader), seed)
        with progress(f"observe {train.name}", needed * plan.steps, "steps", session.show_progress, plan.steps) as bar:
            # The recorder reads the fit's epoch and clock, so each refers to the other.
            recorder.fit = Fit(model, optimizer, compute, plan, recorder, bar)
            recorder.fit.run(loader)
    if session.follows and needed == config.epochs:
        remove_rolling(record.folder)
    if needed == config.epochs:  # saved before the final pass, which a killed run can then make without training
        save_weights(record.folder / WEIGHTS_NAME, model, Facts(config.arch, manifest.classes, config.image_size))
    if session.needs.final:
        _final_pass(session, model, compute)
    return recorder.record


def _from_weights(session: Session) -> Observation:
    """Make the final pass with the kept weights, without training."""
    record, config = session.record, session.config
    assert record.weights is not None, "the session is trained"
    compute = _compute(session)
    model, _ = build_from(record.weights, read_weights(record.weights), config.arch, config.image_size)
    _final_pass(session, model.to(compute.device), compute)
    return record


def _final_pass(session: Session, model: nn.Module, compute: Compute) -> None:
    config, outputs = session.config, session.needs.outputs
    final_pass(
        session.train,
        session.record.folder,
        model,
        config.epochs,
        config.image_size,
        compute,
        outputs=outputs,
        show_progress=session.show_progress,
    )


def _compute(session: Session) -> Compute:
    """Return the device that this observer trains on.

    Raises:
        ConfigError: this machine's device is of another type.
    """
    config = session.config
    compute = choose_compute(config.precision, config.threads)
    if compute.device.type != config.device:
        raise ConfigError(
            f"{session.record.folder}: this observer trains on {config.device}, this machine has "
            f"{compute.device.type}; train it there, or choose another (device=auto)"
        )
    return compute


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
