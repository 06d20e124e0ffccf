"""Soft labels made once, in a file: nothing but logits, for order, crops, flips and mixing are drawn again.

`ROOT/KEY/labels.bin` holds the rows of `LabelLayout`; `labels.json` beside it says what they are, with their SHA-256.
While they are made, rows lie in `labels.part`, and `progress.json` says how many epochs of them are on the disk.

The file is read by descriptor, not through a mapping: a mapped file that is cut short kills the process.
"""

import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.errors import LoaderError, OutputError
from fastdc.files import existing_folder, sync_folder, write_atomic
from fastdc.locks import locked
from fastdc.nn.device import Compute
from fastdc.nn.fit import Epochs, join_lone_sample
from fastdc.progress import Progress, progress, say
from fastdc.train.label_layout import LabelLayout, Place
from fastdc.train.labelling import AskedTeacher, Labelling, check_answers
from fastdc.train.pool import batch_at

if TYPE_CHECKING:
    from fastdc.nn.teacher import Teacher

HASH_BLOCK = 1 << 24


@dataclass(frozen=True)
class LabelFile:
    """A whole file of stored labels.

    Attributes:
        path: `labels.bin`. layout: what lies where in it. sha256: of its content.
        seconds: time that the teacher's forward passes took when it was made.
    """

    path: Path
    layout: LabelLayout
    sha256: str
    seconds: float


class StoredLabelling(Labelling):
    """Labels read from a file. Trainings may share one: it keeps nothing but the open file."""

    def __init__(self, file: LabelFile) -> None:
        super().__init__(file.layout.protocol, 0, file.layout.classes)
        self.file = file
        self._descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def seconds(self) -> float:
        """See `LabelFile`."""
        return self.file.seconds

    def place(self, epoch: int, step: int) -> Place:
        """The stored batch that a training takes in a step."""
        return self.file.layout.drawn(epoch, step)

    def logits(self, images: torch.Tensor, place: Place) -> torch.Tensor:
        """The stored logits of a batch; minus infinity where top-k left them out.

        Raises:
            LoaderError: the file was cut short since it was opened.
        """
        rows = self.rows(place.slot)
        stored = torch.from_numpy(rows["logits"].astype(np.float32)).to(images.device, non_blocking=True)
        if rows.dtype.names == ("logits",):
            return stored
        index = torch.from_numpy(rows["classes"].astype(np.int64)).to(images.device, non_blocking=True)
        return stored.new_full((len(stored), self.classes), -torch.inf).scatter_(1, index, stored)

    def rows(self, slot: int) -> NDArray[np.void]:
        """The rows of the kept batch `slot`, see `row_type`."""
        layout = self.file.layout
        first, end = (int(row) * layout.row.itemsize for row in layout.first_rows[slot : slot + 2])
        data = os.pread(self._descriptor, end - first, first)
        if len(data) != end - first:
            raise LoaderError(f"{self.file.path}: was cut short while it was read; run again, it is made anew")
        return np.frombuffer(data, layout.row)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()


def find_labels(folder: Path, layout: LabelLayout) -> LabelFile | None:
    """The file of stored labels in `folder`, every byte as it was written; None where it is missing or damaged."""
    path = folder / "labels.bin"
    try:
        told = json.loads((folder / "labels.json").read_bytes())
        if path.stat().st_size != layout.file_bytes:
            raise ValueError("its size is wrong")
        if _sha256(path) != told["sha256"]:
            raise ValueError("its content is not what was written")
        return LabelFile(path, layout, str(told["sha256"]), float(told["seconds"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f"{path}: cannot be used ({error}); these labels are made again")
        return None


def make_labels(
    folder: Path,
    layout: LabelLayout,
    loader: Epochs,
    compute: Compute,
    teacher: "Teacher",
    told: dict[str, Any],
    show_progress: bool = False,
) -> LabelFile:
    """The labels in `folder`: those that lie there, or made now by the teacher, one pass over all kept batches.

    A pass that was killed goes on at the epoch it was in; the file is the same bytes as of one that was not.

    Args:
        folder: of these labels alone; its name is their key.
        loader: the stream that they belong to.
        told: what to write into `labels.json` beside hash and time.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
        ConfigError, DivergedError: the teacher's answers cannot be stored.
    """
    if (found := find_labels(folder, layout)) is not None:
        return found
    _make_folder(folder)
    with locked(folder.with_suffix(".lock")):  # two runs that need the same labels make them once
        if (found := find_labels(folder, layout)) is not None:  # made by the run that was waited for
            return found
        (folder / "labels.bin").unlink(missing_ok=True)
        relabelling = Relabelling(folder, layout, AskedTeacher(teacher, layout.classes, compute))
        total = len(layout.kept)
        with progress(f"labels by {teacher.name}", total, "batches", show_progress) as bar:
            relabelling.run(loader, bar)
        return relabelling.finish(told)


class Relabelling:
    """The pass that makes a file of labels."""

    def __init__(self, folder: Path, layout: LabelLayout, ask: AskedTeacher) -> None:
        self.folder, self.layout, self.ask = folder, layout, ask
        self.part, self.state = folder / "labels.part", folder / "progress.json"
        self._labelling = Labelling(layout.protocol, 0, layout.classes)
        self.epochs_done = self._resume()

    def _resume(self) -> int:
        """Epochs that an earlier run has finished; makes room on the disk for a new file."""
        try:
            state = json.loads(self.state.read_bytes())
            if self.part.stat().st_size == self.layout.file_bytes:
                self.ask.restore(float(state["seconds"]))
                return int(state["epochs"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none, or not to be trusted: it only ever saves time
        self.state.unlink(missing_ok=True)
        _reserve(self.part, self.layout.file_bytes)
        return 0

    def run(self, loader: Epochs, bar: Progress) -> None:
        """Make the labels of the epochs that are missing."""
        epochs = self.layout.epochs
        bar.skip(sum(len(self.layout.slots_of(epoch)) for epoch in range(self.epochs_done)))
        with self.part.open("r+b", buffering=0) as handle:
            for epoch in range(self.epochs_done, epochs):
                self._epoch(loader, epoch, handle.fileno(), bar)
                os.fsync(handle.fileno())
                write_atomic(self.state, _json({"epochs": epoch + 1, "seconds": self.ask.seconds}))

    def _epoch(self, loader: Epochs, epoch: int, descriptor: int, bar: Progress) -> None:
        places = [self.layout.place(slot) for slot in self.layout.slots_of(epoch)]
        if len(places) == len(self.layout.sizes):  # all are kept: one walk through the epoch
            batches = (pair[0] for pair in join_lone_sample((batch,) for batch in loader.epoch(epoch)))
        else:
            batches = (batch_at(loader, self.layout, epoch, place.step) for place in places)
        for place, batch in zip(places, batches, strict=True):
            images, _ = self._labelling.mixed(self.ask.compute.images(batch.images), place)
            rows = self._rows(self.ask(images))
            _write_at(descriptor, rows.tobytes(), int(self.layout.first_rows[place.slot]) * rows.itemsize, self.part)
            bar.advance(1, f"epoch {epoch + 1}/{self.layout.epochs}")

    def _rows(self, logits: torch.Tensor) -> NDArray[np.void]:
        """Rows as they are stored; of equal logits at the edge of top-k, which are kept is torch.topk's choice."""
        kept = logits.half()
        check_answers(kept, self.ask.teacher)
        rows = np.empty(len(logits), self.layout.row)
        if self.layout.protocol.label_topk is not None:
            kept, classes = torch.topk(kept, self.layout.protocol.label_topk, dim=1)
            rows["classes"] = classes.cpu().numpy()
        rows["logits"] = kept.cpu().numpy()
        return rows

    def finish(self, told: dict[str, Any]) -> LabelFile:
        """Give the whole file its name."""
        sha256, seconds = _sha256(self.part), self.ask.seconds
        write_atomic(self.folder / "labels.json", _json({**told, "sha256": sha256, "seconds": seconds}))
        os.replace(self.part, self.folder / "labels.bin")
        sync_folder(self.folder)
        self.state.unlink()
        return LabelFile(self.folder / "labels.bin", self.layout, sha256, seconds)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another --workdir") from error


def _reserve(path: Path, size: int) -> None:
    """A new file that has its place on the disk, so that a full one shows before any work is done.

    Raises:
        OutputError: there is not enough room.
    """
    path.unlink(missing_ok=True)
    try:
        with path.open("wb") as handle:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle.fileno(), 0, size)
            else:  # macOS: a full disk shows when it is full
                handle.truncate(size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _full(path, size, error) from error


def _write_at(descriptor: int, data: bytes, place: int, path: Path) -> None:
    try:
        while data:
            count = os.pwrite(descriptor, data, place)
            data, place = data[count:], place + count
    except OSError as error:
        raise _full(path, len(data), error) from error


def _full(path: Path, size: int, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        status = os.statvfs(existing_folder(path.parent))
        free = status.f_bavail * status.f_frsize
        return OutputError(
            f"{path}: the labels take {size / 1e9:,.2f} GB, {free / 1e9:,.2f} GB of the disk are free; free space, "
            "or keep fewer with label_topk or label_ratio"
        )
    return OutputError(f"{path}: cannot be written ({error.strerror}); choose another --workdir")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()
