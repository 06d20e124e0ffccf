"""Soft labels stored in a file.

The file holds logits only, because order, crops, flips and mixing can be drawn again. `ROOT/KEY/labels.bin` holds the
rows of `LabelLayout`; `labels.json` beside it describes them and holds their SHA-256. While labels are made, the rows
are in `labels.part`, and `progress.json` counts the epochs that are safely on disk.

The file is read by descriptor, not through a mapping: truncating a mapped file would kill the process.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.errors import LoaderError, OutputError, is_disk_full
from fastdc.common.files import existing_folder, reserve, sync_folder, write_atomic
from fastdc.common.locks import locked
from fastdc.common.log import Progress, log_message, progress
from fastdc.common.transfer import send
from fastdc.nn.device import Compute
from fastdc.nn.fit_loop import Epochs, join_lone_sample
from fastdc.train.labels.batch_pool import batches_at
from fastdc.train.labels.layout import LabelLayout, Place
from fastdc.train.labels.targets import Labelling, TimedTeacher, check_answers

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher

HASH_BLOCK = 1 << 24


@dataclass(frozen=True)
class LabelFile:
    """Complete file of stored labels.

    Attributes:
        path: path of `labels.bin`.
        layout: its layout.
        sha256: hash of its content.
        seconds: time of the teacher's forward passes that made it.
    """

    path: Path
    layout: LabelLayout
    sha256: str
    seconds: float


class StoredLabelling(Labelling):
    """Labelling from a file. Several trainings may share one, because its only state is the open file."""

    def __init__(self, file: LabelFile) -> None:
        super().__init__(file.layout.protocol, 0, file.layout.classes)  # stored labels ignore the training seed
        self.file = file
        self._descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def seconds(self) -> float:
        """Return the seconds of the teacher's forward passes that made the file."""
        return self.file.seconds

    def place(self, epoch: int, step: int) -> Place:
        """Return the stored batch that a training takes in a step."""
        return self.file.layout.drawn(epoch, step)

    def logits(self, images: torch.Tensor, place: Place) -> torch.Tensor:
        """Read the stored logits of a batch, float32 [B, C]; minus infinity where top-k left them out.

        Raises:
            LoaderError: the file was truncated since it was opened.
        """
        rows = self.rows(place.slot)
        stored = send(torch.from_numpy(rows["logits"].astype(np.float32)), images.device)
        if rows.dtype.names == ("logits",):
            return stored
        index = send(torch.from_numpy(rows["classes"].astype(np.int64)), images.device)
        return stored.new_full((len(stored), self.classes), -torch.inf).scatter_(1, index, stored)

    def rows(self, slot: int) -> NDArray[np.void]:
        """Read the rows of the kept batch `slot` (`row_type`).

        Raises:
            LoaderError: the file was truncated since it was opened.
        """
        layout = self.file.layout
        first, end = (int(row) * layout.row.itemsize for row in layout.first_rows[slot : slot + 2])
        data = os.pread(self._descriptor, end - first, first)  # has no file position that trainings could disturb
        if len(data) != end - first:
            raise LoaderError(f"{self.file.path}: was cut short while it was read; run again to remake it")
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
    """Return the file of stored labels in `folder` after checking its hash; None if it is missing or damaged."""
    path = folder / "labels.bin"
    try:
        facts = json.loads((folder / "labels.json").read_bytes())
        if path.stat().st_size != layout.file_bytes:
            raise ValueError("its size is wrong")
        if _sha256(path) != facts["sha256"]:
            raise ValueError("its content is not what was written")
        return LabelFile(path, layout, str(facts["sha256"]), float(facts["seconds"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log_message(f"{path}: cannot be used ({error}); these labels are made again")
        return None


def make_labels(
    folder: Path,
    layout: LabelLayout,
    loader: Epochs,
    compute: Compute,
    teacher: "Teacher",
    facts: dict[str, Any],
) -> LabelFile:
    """Return the labels in `folder`; if there are none, make them in one pass of the teacher over all kept batches.

    A killed pass continues at the start of its current epoch, and gives the same bytes as an uninterrupted one.

    Args:
        folder: folder for these labels only; its name is their key.
        layout: layout of the file.
        loader: the stream that the labels belong to.
        compute, teacher: device and network that make the labels.
        facts: content of `labels.json` beside hash and time.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
        ConfigError: the teacher has another number of classes.
        DivergedError: a logit is NaN or infinite in fp16.
    """
    if (found := find_labels(folder, layout)) is not None:
        return found
    _make_folder(folder)
    with locked(folder.with_suffix(".lock")):  # two runs that need the same labels make them once
        if (found := find_labels(folder, layout)) is not None:  # made while this run waited
            return found
        (folder / "labels.bin").unlink(missing_ok=True)
        relabelling = Relabelling(folder, layout, TimedTeacher(teacher, layout.classes, compute))
        total = len(layout.kept)
        with progress(f"labels by {teacher.name}", total, "batches") as bar:
            relabelling.run(loader, bar)
        return relabelling.finish(facts)


class Relabelling:
    """Pass of a teacher that makes a file of labels."""

    def __init__(self, folder: Path, layout: LabelLayout, timed: TimedTeacher) -> None:
        self.folder, self.layout, self.timed = folder, layout, timed
        self.part, self.state = folder / "labels.part", folder / "progress.json"
        self._labelling = Labelling(layout.protocol, 0, layout.classes)
        self.epochs_done = self._resume()

    def _resume(self) -> int:
        """Return the epochs that an earlier run finished; if none are usable, allocate a new file."""
        try:
            state = json.loads(self.state.read_bytes())
            if self.part.stat().st_size == self.layout.file_bytes:
                self.timed.restore(float(state["seconds"]))
                return int(state["epochs"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # missing or damaged; progress only saves time, so start over
        self.state.unlink(missing_ok=True)
        _reserve(self.part, self.layout.file_bytes)
        return 0

    def run(self, loader: Epochs, bar: Progress) -> None:
        """Make the labels of the missing epochs."""
        epochs = self.layout.epochs
        bar.skip(sum(len(self.layout.slots_of(epoch)) for epoch in range(self.epochs_done)))
        with self.part.open("r+b", buffering=0) as handle:
            for epoch in range(self.epochs_done, epochs):
                self._epoch(loader, epoch, handle.fileno(), bar)
                os.fsync(handle.fileno())  # before the progress file, which must never count rows that are not on disk
                write_atomic(self.state, _json({"epochs": epoch + 1, "seconds": self.timed.seconds}))

    def _epoch(self, loader: Epochs, epoch: int, descriptor: int, bar: Progress) -> None:
        places = [self.layout.place(slot) for slot in self.layout.slots_of(epoch)]
        if len(places) == len(self.layout.sizes):  # all are kept: iterate once instead of seeking to each
            batches = join_lone_sample(loader.epoch_views(epoch))
        else:
            batches = (batches_at(loader, self.layout, epoch, place.step) for place in places)
        for place, (batch,) in zip(places, batches, strict=True):
            images, _ = self._labelling.mixed(self.timed.compute.images(batch.images), place)
            rows = self._rows(self.timed(images))
            _write_at(descriptor, rows.tobytes(), int(self.layout.first_rows[place.slot]) * rows.itemsize, self.part)
            bar.advance(1, f"epoch {epoch + 1}/{self.layout.epochs}")

    def _rows(self, logits: torch.Tensor) -> NDArray[np.void]:
        """Return logits as stored rows; among equal logits at the edge of top-k, torch.topk chooses."""
        kept = logits.half()  # before the check: values beyond fp16's range become infinite
        check_answers(kept, self.timed.teacher)
        rows = np.empty(len(logits), self.layout.row)
        if self.layout.protocol.label_topk is not None:
            kept, classes = torch.topk(kept, self.layout.protocol.label_topk, dim=1)
            rows["classes"] = classes.cpu().numpy()
        rows["logits"] = kept.cpu().numpy()
        return rows

    def finish(self, facts: dict[str, Any]) -> LabelFile:
        """Write `labels.json`, and rename the complete file to its final name."""
        # labels.json goes first: without labels.bin beside it, `find_labels` treats the labels as missing.
        sha256, seconds = _sha256(self.part), self.timed.seconds
        write_atomic(self.folder / "labels.json", _json({**facts, "sha256": sha256, "seconds": seconds}))
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
    """Allocate the space of all labels before any work is done.

    Raises:
        OutputError: there is not enough space, or the file cannot be written.
    """
    try:
        reserve(path, size)
    except OSError as error:
        raise _full(path, size, error) from error


def _write_at(descriptor: int, data: bytes, place: int, path: Path) -> None:
    try:
        while data:  # a single write may be partial
            count = os.pwrite(descriptor, data, place)
            data, place = data[count:], place + count
    except OSError as error:
        raise _full(path, len(data), error) from error


def _full(path: Path, size: int, error: OSError) -> OutputError:
    if is_disk_full(error):
        free = shutil.disk_usage(existing_folder(path.parent)).free
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
