"""Grouping of images into batches, and storage of finished batches. No torch."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.common.files import atomic_file, write_atomic
from fastdc.recover.recovery_recipe import Layout


def batch_positions(layout: Layout, classes: int, ipc: int, batch_size: int) -> list[NDArray[np.int64]]:
    """Return the positions (class-major: class x ipc + index) of the images of every batch, int64 [B] each.

    Args:
        layout: `across`, one image each of `batch_size` consecutive classes, one index after the other (SRe2L);
            `class`, images of a single class, at most `batch_size` of them (LPLD); `class_major`, `batch_size`
            consecutive images, so that a batch may hold several classes (G-VBSM).
        classes: number of classes.
        ipc: images per class.
        batch_size: most images in a batch.

    Returns:
        The batches, which together hold every position once.
    """
    grid = np.arange(classes * ipc, dtype=np.int64).reshape(classes, ipc)
    rows = {"across": grid.T, "class": grid, "class_major": grid.reshape(1, -1)}[layout]
    return [row[start : start + batch_size] for row in rows for start in range(0, len(row), batch_size)]


def load_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return an array saved by an earlier run, memory-mapped read-only.

    It is None if the file is missing, damaged or of another type or shape.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if isinstance(found, np.ndarray) and (found.dtype, found.shape) == (dtype, shape) else None


@dataclass(frozen=True)
class BatchStore:
    """Finished batches in a folder, one file each, so that a killed recovery loses only its current batch.

    Attributes:
        folder: holds the batches of one recovery only.
        shape: of an image, (S, S, 3).
    """

    folder: Path
    shape: tuple[int, int, int]

    def path(self, batch: int) -> Path:
        """Return the file with the images of batch number `batch`, uint8 [B, S, S, 3]."""
        return self.folder / f"batch_{batch:06d}.npy"

    def save(self, batch: int, images: NDArray[np.uint8], facts: dict[str, float]) -> None:
        """Save a finished batch. The images are written last, because their file marks the batch as finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path(batch).with_suffix(".json"), json.dumps(facts, sort_keys=True).encode())
        buffer = io.BytesIO()
        np.save(buffer, images)
        write_atomic(self.path(batch), buffer.getvalue())

    def finished(self, batch: int, size: int) -> bool:
        """Return whether a whole batch of `size` images is saved; a damaged one counts as missing and is made again."""
        try:
            self.facts(batch)
        except (OSError, ValueError, TypeError):
            return False
        return load_array(self.path(batch), np.uint8, (size, *self.shape)) is not None

    def facts(self, batch: int) -> dict[str, float]:
        """Return the measurements made when the batch was finished."""
        return dict(json.loads(self.path(batch).with_suffix(".json").read_text()))

    def images(self, batches: list[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
        """Yield all images, uint8 [S, S, 3], in order of position."""
        places = np.empty((sum(map(len, batches)), 2), np.int64)
        for number, positions in enumerate(batches):
            places[positions, 0], places[positions, 1] = number, np.arange(len(positions))
        for number, row in places.tolist():
            # A mapped file reads only this image; the copy lets the mapping close at once.
            yield np.array(np.load(self.path(number), mmap_mode="r", allow_pickle=False)[row])


class StartFile:
    """Start images of a recovery, in one file from which batches read their rows.

    Args:
        path: the file; the first `read` makes it if it is missing.
        shape: (M, S, S, 3).
        make: returns the images, RGB uint8 [S, S, 3], in order of position.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int, int], make: Callable[[], Iterator[NDArray[np.uint8]]]
    ) -> None:
        self.path, self.shape, self.make = path, shape, make

    def read(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at `positions`, uint8 [B, S, S, 3]."""
        images = load_array(self.path, np.uint8, self.shape)
        if images is None:
            self._write()
            images = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return np.array(images[positions])

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as handle:
            # The header is written by hand, so that the images can follow one by one without an array of them all.
            np.lib.format.write_array_header_2_0(handle, {"descr": "|u1", "fortran_order": False, "shape": self.shape})
            # strict: too few or too many images are an error.
            for _, image in zip(range(self.shape[0]), self.make(), strict=True):
                handle.write(np.ascontiguousarray(image).tobytes())
