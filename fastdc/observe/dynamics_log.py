"""The dynamics log on disk: appended epoch by epoch, read through a memory map. Imports no torch."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import ManifestError, MethodError
from fastdc.common.files import write_atomic
from fastdc.kernels.scores.fields import FIELDS
from fastdc.observe.final_outputs import FinalPass, load_final
from fastdc.observe.record_needs import ObserverNeeds

LOG_NAME = "dynamics.f32"
INDEX_NAME = "observer.json"
TDDS_NAME = "tdds.f32"
WEIGHTS_NAME = "weights.safetensors"
STORED = ("num_samples", "epoch_seconds", "identity", "runs", "started", "trained_with", "tdds_epochs", "extra")


@dataclass(frozen=True)
class Observation:
    """Record of one observer run, complete for the first `epochs` epochs.

    Attributes:
        folder: folder of its files.
        num_samples: N.
        epoch_seconds: wall time of training up to the end of each epoch in the log.
        identity: everything that the run depends on.
        runs: number of runs requested when this one was started.
        started: time of that start in seconds since 1970; the first observer serves requests that name none.
        trained_with: precision, threads, device and versions of its last training session; not part of its key.
        tdds_epochs: number of epochs, from the first on, between which TDDS's distances were kept.
        extra: whether it was trained only as an extra teacher (`observer:ARCH`), which never serves requests that
            name no observer.
    """

    folder: Path
    num_samples: int
    epoch_seconds: tuple[float, ...]
    identity: dict[str, Any]
    runs: int
    started: float
    trained_with: dict[str, Any]
    tdds_epochs: int = 0
    extra: bool = False

    @property
    def epochs(self) -> int:
        """Return the number of whole epochs in the log."""
        return len(self.epoch_seconds)

    def seconds(self, epochs: int | None = None) -> float:
        """Return the wall time of training the first `epochs` epochs, or all of them."""
        done = self.epoch_seconds[:epochs]
        return done[-1] if done else 0.0

    def field(self, name: str) -> NDArray[np.float32]:
        """Return one field of the log (`fastdc.kernels.scores.fields.FIELDS`), float32 [T, N], memory-mapped."""
        log = np.memmap(
            self.folder / LOG_NAME, dtype="<f4", mode="r", shape=(self.epochs, len(FIELDS), self.num_samples)
        )
        return log[:, FIELDS.index(name)]

    @property
    def tdds(self) -> NDArray[np.float32]:
        """Return TDDS's distances between consecutive epochs, float32 [tdds_epochs - 1, N], memory-mapped.

        Raises:
            MethodError: they were not kept.
        """
        if self.tdds_epochs < 2:
            raise MethodError(
                f"{self.folder}: TDDS's distances were not kept; observe again for a method that reads them"
            )
        return np.memmap(self.folder / TDDS_NAME, "<f4", "r", shape=(self.tdds_epochs - 1, self.num_samples))

    @property
    def weights(self) -> Path | None:
        """Return the file of the weights at the end of the schedule, or None before that."""
        path = self.folder / WEIGHTS_NAME
        return path if path.exists() else None

    @property
    def final(self) -> FinalPass:
        """Load the pass at the end of the schedule.

        Raises:
            MethodError: there is none.
            ManifestError: its record is damaged.
        """
        found = load_final(self.folder)
        if found is None:
            raise MethodError(f"{self.folder}: has no final pass; observe again for a method that reads features")
        return found

    def serves(self, needs: ObserverNeeds, schedule: int) -> bool:
        """Return whether this record covers `needs`, for an observer with a schedule of `schedule` epochs."""
        return (
            self.epochs >= needs.last_epoch(schedule)
            and self.tdds_epochs >= needs.tdds_epochs(schedule)
            and (not needs.final or self._final_serves(needs))
            and (not needs.weights or self.weights is not None)
        )

    def _final_serves(self, needs: ObserverNeeds) -> bool:
        final = load_final(self.folder)
        # `>=` of booleans is implication: what is needed must be there.
        return final is not None and final.has_outputs >= needs.outputs and final.exact >= needs.exact

    def missing(self, needs: ObserverNeeds, schedule: int) -> ObserverNeeds:
        """Return the part of `needs` that this record lacks, so that nothing is trained or computed twice.

        A final pass that lacks something is recomputed as a whole, and keeps the probabilities of the earlier one.
        """
        final = load_final(self.folder) if needs.final else None
        return ObserverNeeds(
            epochs=0 if self.epochs >= needs.log_epochs(schedule) else needs.epochs,
            final=needs.final and not (self.epochs >= schedule and self._final_serves(needs)),
            outputs=needs.outputs or (final is not None and final.has_outputs),
            tdds=0 if self.tdds_epochs >= needs.tdds_epochs(schedule) else needs.tdds,
            weights=needs.weights and self.weights is None,
            exact=needs.exact,
        )

    def cost(self, needs: ObserverNeeds, schedule: int) -> float:
        """Return the seconds of training and of the final pass that a run for `needs` alone would have taken.

        Raises:
            MethodError: `needs` includes a final pass, and there is none.
        """
        return self.seconds(needs.last_epoch(schedule)) + (self.final.seconds if needs.final else 0.0)


def append_epoch(folder: Path, epoch: int, values: NDArray[np.float32]) -> None:
    """Write epoch `epoch` (counted from 0) at its place in the log, and sync it to disk.

    Args:
        values: float32 [F, N], every entry finite.

    Raises:
        ManifestError: a value is not finite, which means that the epoch missed a sample.
    """
    bad = np.flatnonzero(~np.isfinite(values).all(axis=0))
    if bad.size:
        raise ManifestError(f"{folder}: epoch {epoch + 1} has no dynamics of sample {bad[0]} ({bad.size} in all)")
    # A killed run may have left all or part of this epoch, so the rest is cut off.
    write_row(folder / LOG_NAME, epoch, values, cut=True)


def write_row(path: Path, number: int, values: NDArray[np.float32], cut: bool = False) -> None:
    """Write row `number` of a file of equal rows at its place, and sync it to disk.

    Args:
        cut: whether to cut off what follows the row.
    """
    path.touch()  # "r+b" does not create the file
    with path.open("r+b") as handle:
        handle.seek(number * values.nbytes)
        handle.write(np.ascontiguousarray(values, dtype="<f4").tobytes())
        if cut:
            handle.truncate()
        handle.flush()
        os.fsync(handle.fileno())  # before `commit`, which must never count an epoch that is not on disk


def commit(observation: Observation) -> None:
    """Write the record to `observer.json`, which states how many epochs of the log are whole."""
    content = {"fields": FIELDS, **{name: getattr(observation, name) for name in STORED}}
    write_atomic(observation.folder / INDEX_NAME, json.dumps(content, indent=1, sort_keys=True).encode())


def load_observation(folder: Path) -> Observation | None:
    """Load the record in `folder`, or return None if nothing was committed.

    Raises:
        ManifestError: the record is damaged or has other fields, or a file is shorter than it states.
    """
    path = folder / INDEX_NAME
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        content = {"tdds_epochs": 0, "extra": False} | content  # earlier versions did not write these
        record = Observation(folder, **{name: content[name] for name in STORED})
        record = replace(record, epoch_seconds=tuple(record.epoch_seconds))
        fields = tuple(content["fields"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: not an observer record ({error}); delete the folder and observe again") from error
    if fields != FIELDS:
        raise ManifestError(f"{path}: has fields {fields}, expected {FIELDS}; delete the folder and observe again")
    rows = {LOG_NAME: record.epochs * len(FIELDS), TDDS_NAME: max(record.tdds_epochs - 1, 0)}
    for file, count in ((folder / name, count) for name, count in rows.items()):
        found, needed = file.stat().st_size if file.exists() else 0, 4 * count * record.num_samples
        if found < needed:
            raise ManifestError(
                f"{file}: {found} bytes, expected at least {needed}; delete the folder and observe again"
            )
    return record
