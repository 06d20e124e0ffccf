"""Read vectors from files of other programs: NumPy, JSON, pickles and torch saves. No file can run code."""

import json
import math
import tokenize
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.sources.npz_arrays import read_header
from fastdc.common.errors import ConfigError
from fastdc.subsets.safe_pickle import read_pickle
from fastdc.subsets.tables import read_text

Vector = NDArray[Any] | Sequence[Any]


def read_value(path: Path, expected: str) -> Any:
    """Return the content of a file as arrays and plain containers.

    Args:
        path: a file whose suffix is in `READERS`.
        expected: what the file should hold, for the message.

    Raises:
        ConfigError: the file cannot be read, or holds something other than numbers, text and plain containers.
    """
    return READERS[path.suffix.lower()](path, expected)


def is_vector(value: Any) -> bool:
    """Return whether a value is a 1-D array, or a list of numbers or of texts."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "biufU"
    kinds = {type(item) for item in value} if isinstance(value, list | tuple) else {dict}
    return kinds <= {int, float} or kinds in ({bool}, {str})


def shape_of(value: Any) -> str:
    """Describe a value for a message: `float64 [3, 2]`, `a list`, `a mapping of a, b`."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, Mapping):
        keys = [str(key)[:40] for key in value] or ["nothing"]
        return f"a mapping of {', '.join(keys[:8])}{', ...' if len(keys) > 8 else ''}"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, list | tuple) else "")


def _read_array(path: Path, expected: str) -> NDArray[Any]:
    try:
        # The file is mapped, so that a header that announces more than the file holds allocates nothing.
        with np.errstate(over="ignore"):
            values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, BadZipFile, tokenize.TokenError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else _why_unread(path)
        raise ConfigError(f"{path}: cannot be read ({reason}), expected {expected}") from error
    if not isinstance(values, np.ndarray):
        raise ConfigError(f"{path}: holds several arrays, expected {expected}")
    return np.asarray(values)


def _why_unread(path: Path) -> str:
    """Return why a file is no array, or that it has fewer bytes than its header states."""
    try:
        with path.open("rb") as stream:
            shape, _, dtype = read_header(stream)
            found = path.stat().st_size - stream.tell()
    except (OSError, ValueError, EOFError, tokenize.TokenError):
        return "no plain numpy array"
    stated = math.prod(shape) * dtype.itemsize
    if stated <= found:
        return "no plain numpy array"
    return f"its header states {list(shape)} of {dtype}, {stated:,} bytes, but {found:,} follow; get it again"


def _read_json(path: Path, expected: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigError(f"{path}: has the key '{key[:80]}' twice; name each image once")
            found[key] = value
        return found

    try:
        return json.loads(read_text(path, expected), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no JSON ({error}), expected {expected}") from error


READERS: dict[str, Callable[[Path, str], Any]] = {
    ".npy": _read_array,
    ".json": _read_json,
    **dict.fromkeys((".pickle", ".pkl", ".pth", ".pt", ".ckpt"), read_pickle),
}
"""Readers by suffix."""
