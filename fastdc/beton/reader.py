"""Read labels, sizes and payloads of a `.beton` with an image and a label field, written by fastdc or by stock FFCV."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.format import MODE_JPEG, Problem, Structure, read_structure
from fastdc.beton.images import decode_payload
from fastdc.common.errors import BetonError, SourceError
from fastdc.common.files import check_file


class BetonFile:
    """A `.beton` opened for reading. Opening is cheap: it reads no payload and runs no Python loop over the samples.

    Args:
        path: the file.

    Attributes:
        path: the file.
        structure: its parsed tables; see `format.Structure`.
        num_samples: number N of samples.
        labels: class of each sample, int64 [N].
        heights: pixels, int64 [N].
        widths: pixels, int64 [N].
        modes: 0 = JPEG, 1 = raw RGB, uint8 [N].
        offsets: first byte of each payload in the file, int64 [N].
        sizes: bytes of each payload, int64 [N].
        payload_bytes: sum of `sizes`.

    Raises:
        BetonError: the file is missing, truncated, damaged, or has other fields than `image` and `label`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        structure, problems, data = _open(self.path)
        if structure is None or problems:
            raise BetonError(f"{self.path}: {problems[0]}")
        images = structure.metadata["image"]
        self.structure = structure
        self.num_samples = len(structure.metadata)
        self.labels: NDArray[np.int64] = structure.metadata["label"].astype(np.int64)
        self.heights: NDArray[np.int64] = images["height"].astype(np.int64)
        self.widths: NDArray[np.int64] = images["width"].astype(np.int64)
        self.modes: NDArray[np.uint8] = images["mode"].astype(np.uint8)
        self.offsets: NDArray[np.int64] = structure.allocations["ptr"].astype(np.int64)
        self.sizes: NDArray[np.int64] = structure.allocations["size"].astype(np.int64)
        self.payload_bytes = int(self.sizes.sum())
        self._data: NDArray[np.uint8] | None = data

    def __len__(self) -> int:
        return self.num_samples

    def payload(self, index: int) -> memoryview:
        """Return the stored bytes of sample `index`: a JPEG file, or H*W*3 raw bytes.

        The result is a read-only view of the mapped file.

        Raises:
            BetonError: `index` is outside 0..N-1, or the file was closed.
        """
        self._check_index(index)
        if self._data is None:
            raise BetonError(f"{self.path}: was closed; open it again")
        start = self.offsets[index]
        return self._data[start : start + self.sizes[index]].data

    def _check_index(self, index: int) -> None:
        """Check that a sample exists; a negative index is refused.

        Raises:
            BetonError: `index` is outside 0..N-1.
        """
        if not 0 <= index < self.num_samples:
            raise BetonError(f"{self.path}: sample {index} does not exist, expected 0..{self.num_samples - 1}")

    def decode(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of sample `index` as a new uint8 array [H, W, 3], equal to what Pillow decodes.

        Raises:
            BetonError: the payload is not an image of the stated size, or `index` is outside 0..N-1.
        """
        payload = self.payload(index)
        height, width = int(self.heights[index]), int(self.widths[index])
        if self.modes[index] != MODE_JPEG:
            return np.frombuffer(payload, np.uint8).reshape(height, width, 3).copy()
        try:
            pixels = decode_payload(payload)
        except SourceError as error:
            raise BetonError(f"{self.path}: sample {index}: {error}") from error
        if pixels.shape != (height, width, 3):
            found = f"{pixels.shape[0]} x {pixels.shape[1]}"
            raise BetonError(f"{self.path}: sample {index}: JPEG of {found} pixels, expected {height} x {width}")
        return pixels

    def close(self) -> None:
        """Release the mapped file. It stays mapped while payload views exist. Closing twice is harmless."""
        self._data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def inspect_beton(path: Path) -> tuple[Structure | None, list[Problem]]:
    """Return the structure and the problems of a beton (see `format.read_structure`).

    Raises:
        BetonError: the file cannot be opened.
    """
    structure, problems, _ = _open(path)
    return structure, problems


def _open(path: Path) -> tuple[Structure | None, list[Problem], Any]:
    """Return structure, problems and mapped bytes, all from one open file, so that a rename cannot mix two files."""
    check_file(path, "a .beton file", BetonError)
    try:
        with path.open("rb") as handle:
            structure, problems = read_structure(handle, path)
            mapped = None if structure is None else np.memmap(handle, np.uint8, mode="r")
    except OSError as error:
        raise BetonError(f"{path}: cannot be read ({error.strerror})") from error
    # A plain view: slicing np.memmap itself costs several microseconds for each payload.
    return structure, problems, None if mapped is None else mapped.view(np.ndarray)
