"""Recording of the dynamics of every training image during the observer's training."""

from collections import deque
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from fastdc.common.errors import CheckpointError
from fastdc.common.transfer import Fetched
from fastdc.kernels.scores.dynamics import batch_dynamics
from fastdc.kernels.scores.fields import FIELDS
from fastdc.loader import Batch
from fastdc.nn.fit import Fit
from fastdc.nn.fit_plan import Recorder
from fastdc.observe.dynamics_log import Observation, append_epoch, commit
from fastdc.observe.tdds_log import TddsRecorder

STEPS_BEHIND = {"cpu": 0, "cuda": 8}
"""Number of steps by which the record may be behind the training, so that no step waits for its outputs."""


class _Outputs(NamedTuple):
    """Outputs of one step: logits float32 [B, C], labels int64 [B], indices int64 [B]."""

    logits: Fetched
    labels: Fetched
    indices: torch.Tensor


class DynamicsRecorder(Recorder):
    """Recorder that collects an epoch's dynamics and appends them to the log when the epoch is complete."""

    def __init__(self, record: Observation, trajectory: TddsRecorder | None = None) -> None:
        self.record, self.trajectory = record, trajectory
        self.fit: Fit | None = None
        self.values = self._empty()
        self._coming: deque[_Outputs] = deque()

    def _empty(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        # NaN marks samples that the epoch has not seen; `append_epoch` refuses them.
        return np.full((len(FIELDS), self.record.num_samples), np.nan, np.float32)

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        """Record the dynamics of the training-time outputs (of augmented images), as CCS and DeepCore do."""
        self._coming.append(_Outputs(Fetched(logits), Fetched(batch.labels), batch.indices))
        self._catch_up(STEPS_BEHIND[logits.device.type])

    def _catch_up(self, behind: int = 0) -> None:
        """Record the oldest outputs until at most `behind` steps are left."""
        while len(self._coming) > behind:
            step = self._coming.popleft()
            logits, labels, indices = step.logits.wait(), step.labels.wait().numpy(), step.indices.numpy()
            batch_dynamics(logits.numpy(), labels, indices, self.values)
            if self.trajectory is not None:
                assert self.fit is not None
                self.trajectory.batch(self.fit.epoch, logits, indices)

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        """Append the epoch to the log, then commit it.

        After a kill, an epoch that the log already holds may be trained again from an older checkpoint. The log keeps
        the first version: a subset may depend on it, and a GPU does not repeat it bit for bit.
        """
        self._catch_up()
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
        self._catch_up()
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
