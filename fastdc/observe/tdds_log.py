"""TDDS's trajectory: how far each sample's probabilities move between epochs, without storing all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.errors import CheckpointError, ManifestError
from fastdc.common.files import reserve
from fastdc.observe.dynamics_log import TDDS_NAME, write_row

ROLLING_NAMES = ("log_probabilities_0.f16", "log_probabilities_1.f16")


class TddsRecorder:
    """Recorder of q_t = sum_c |p_{t+1,c} (ln p_{t+1,c} - ln p_{t,c})| per epoch and sample (TDDS, CVPR 2024, eq. 4).

    Two rolling files hold the log-probabilities of the last whole epoch and of the current one, float16 [N, C]. A run
    killed inside an epoch resumes at the start of that epoch or later, and writes the same values again. The files
    hold logarithms because float16 rounds probabilities below 6e-8 to 0.

    Args:
        folder: the observer's folder.
        samples: N, number of training images.
        classes: C, number of classes.
    """

    def __init__(self, folder: Path, samples: int, classes: int) -> None:
        self.folder, self.shape = folder, (samples, classes)
        self.values = np.full(samples, np.nan, np.float32)
        self._rolling: list[np.memmap[Any, Any]] = []

    def batch(self, epoch: int, logits: torch.Tensor, indices: NDArray[np.int64]) -> None:
        """Record a batch of epoch `epoch` (counted from 0)."""
        if not self._rolling:  # created late: a finished training that is only resumed needs none
            self._rolling = [_rolling(self.folder / name, self.shape) for name in ROLLING_NAMES]
        current = torch.log_softmax(logits.double(), dim=1)
        # float16 ends at 65,504; exp(-60,000) is 0 in any case.
        self._rolling[epoch % 2][indices] = current.clamp(min=-60_000.0).half().numpy()
        if epoch == 0:
            return
        # The two files alternate: the other one holds the epoch before.
        previous = torch.from_numpy(self._rolling[(epoch + 1) % 2][indices]).double()
        moved = (current.exp() * (current - previous)).abs().sum(dim=1)
        self.values[indices] = moved.float().numpy()

    def epoch_end(self, epoch: int) -> None:
        """Append the epoch's values, and sync them and the log-probabilities for the next epoch to disk."""
        self._rolling[epoch % 2].flush()
        if epoch > 0:
            append_trajectory(self.folder, epoch - 1, self.values)
        self.values = np.full(self.shape[0], np.nan, np.float32)

    def state(self) -> dict[str, Any]:
        """Return the unfinished epoch's values for a checkpoint, and sync the rolling files that they depend on."""
        for rolling in self._rolling:
            rolling.flush()
        return {"values": torch.from_numpy(self.values.copy())}

    def restore(self, state: dict[str, Any], finished: bool = False) -> None:
        """Restore the unfinished epoch from a checkpoint.

        Args:
            finished: whether no epoch follows, so that the rolling files may be missing.

        Raises:
            CheckpointError: the rolling files are missing, so the next epoch has nothing to be compared with.
        """
        if not (finished or all(_is_there(self.folder / name, self.shape) for name in ROLLING_NAMES)):
            raise CheckpointError(f"{self.folder / ROLLING_NAMES[0]}: is missing or cut; TDDS needs it to continue")
        self.values = state["values"].numpy().copy()


def _is_there(path: Path, shape: tuple[int, int]) -> bool:
    return path.exists() and path.stat().st_size == 2 * shape[0] * shape[1]


def _rolling(path: Path, shape: tuple[int, int]) -> "np.memmap[Any, Any]":
    if not _is_there(path, shape):
        reserve(path, 2 * shape[0] * shape[1])
    return np.memmap(path, "<f2", "r+", shape=shape)


def remove_rolling(folder: Path) -> None:
    """Delete the rolling files at the end of the schedule."""
    for name in ROLLING_NAMES:
        (folder / name).unlink(missing_ok=True)


def append_trajectory(folder: Path, step: int, values: NDArray[np.float32]) -> None:
    """Write the distances between the epochs `step` and `step + 1` (counted from 0) at their place in the file.

    Later distances stay: a training that starts over repeats epochs that the record already counts.

    Raises:
        ManifestError: a distance is not finite, which means that the epoch missed a sample.
    """
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ManifestError(
            f"{folder}: no TDDS distance for sample {bad[0]} ({bad.size} in all) after epoch {step + 2}"
        )
    write_row(folder / TDDS_NAME, step, values)
