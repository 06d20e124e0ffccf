"""Read arrays of an `.npz` row by row, so that one of any size needs little memory. Pickled objects are refused.

Source: the format of `.npy` files, `numpy.lib.format`.
"""

import math
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fastdc.beton.sources.archive_tree import DAMAGE
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line

MAX_WHOLE_BYTES = 1 << 28
"""Largest size of an array that is read at once: labels and class names."""


class NpzArray(NamedTuple):
    """One array of an archive.

    Attributes:
        where: the archive's path and the array's name, for messages.
        shape, dtype: those of the array.
    """

    archive: zipfile.ZipFile
    member: str
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def rows(self) -> Iterator[NDArray[Any]]:
        """Yield `array[0]`, `array[1]`, ..., read from the archive one by one.

        Raises:
            SourceError: the archive is damaged.
        """
        return self._read(self.shape[0], self.shape[1:])

    def whole(self) -> NDArray[Any]:
        """Return the array.

        Raises:
            SourceError: it is larger than `MAX_WHOLE_BYTES`, or damaged.
        """
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > MAX_WHOLE_BYTES:
            raise SourceError(f"{self.where}: {size:,} bytes, expected at most {MAX_WHOLE_BYTES:,} of labels or names")
        return next(self._read(1, self.shape))

    def _read(self, count: int, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        """Yield `count` arrays of one shape, which lie one after another."""
        size, row = math.prod(shape) * self.dtype.itemsize, 0
        try:
            with self.archive.open(self.member) as stream:
                read_header(stream)
                for row in range(count):  # noqa: B007 (for the message)
                    data = stream.read(size)
                    if len(data) != size:
                        raise EOFError("it ends early")
                    yield np.frombuffer(data, self.dtype).reshape(shape)
        except DAMAGE as error:
            raise SourceError(f"{self.where}: damaged at row {row} ({one_line(error)}); get the file again") from error


def open_npz(path: Path) -> zipfile.ZipFile:
    """Open an archive of arrays; close it after use.

    Raises:
        SourceError: it is not a whole archive.
    """
    try:
        return zipfile.ZipFile(path)
    except DAMAGE as error:
        raise SourceError(
            f"{path}: is not a whole .npz ({one_line(error)}), expected what numpy.savez writes; get it again"
        ) from error


def npz_names(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of an archive's arrays."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def find_array(archive: zipfile.ZipFile, name: str, path: Path) -> NpzArray:
    """Read an array's header, and check that it states the array's true size.

    Raises:
        SourceError: the array holds objects, is in Fortran's order, or has another size than its header states.
    """
    member, where = f"{name}.npy", f"{path}: {name}"
    try:
        with archive.open(member) as stream:
            shape, fortran, dtype = read_header(stream)
            start = stream.tell()
    except (RuntimeError, tokenize.TokenError, *DAMAGE) as error:  # RuntimeError: encrypted
        raise SourceError(f"{where}: has no readable header ({one_line(error)}); save it with numpy.savez") from error
    if dtype.hasobject:
        raise SourceError(
            f"{where}: holds pickled objects, which could run code; save it as an array of numbers or text"
        )
    if fortran and len(shape) > 1:
        raise SourceError(f"{where}: is in Fortran's order; save numpy.ascontiguousarray of it")
    stated, found = math.prod(shape) * dtype.itemsize, archive.getinfo(member).file_size - start
    if stated != found:
        raise SourceError(
            f"{where}: its header states {list(shape)} of {dtype}, {stated:,} bytes, but {found:,} follow; get it again"
        )
    return NpzArray(archive, member, where, shape, dtype)


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the order is Fortran's, and type, as the header of a `.npy` states them.

    Raises:
        ValueError: there is no such header, or it has another version than 1.0.
    """
    version = npy.read_magic(stream)
    if version != (1, 0):  # whose header has at most 64 KiB; later versions may state 4 GiB
        raise ValueError(f"version {version[0]}.{version[1]} of .npy, expected 1.0")
    shape, fortran, dtype = npy.read_array_header_1_0(stream)
    if any(side < 0 for side in shape):
        raise ValueError(f"the shape {list(shape)}")
    return shape, fortran, dtype
