"""The one decorator of our numba kernels: compiled once per machine, kept on disk, never stale.

numba keeps a compiled kernel for as long as the file that holds it is unchanged, but compiled code also contains the
kernels it calls from other files. A fix in `boxes.py` would therefore not reach a cached kernel in `batches.py`. So the
cache folder's name holds a hash of every source file in this room: any change there starts a new folder.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])

_CONFIG: Any = numba.config  # its attributes are made at run time, which type checkers cannot see
_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def cache_folder() -> Path:
    """Folder of compiled kernels: NUMBA_CACHE_DIR if set, else inside the package, else the user's cache folder."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).resolve().parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    if _CONFIG.CACHE_DIR:
        return Path(_CONFIG.CACHE_DIR) / name
    inside = _PACKAGE / "__pycache__"
    if os.access(inside if inside.exists() else _PACKAGE, os.W_OK):
        return inside / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastdc" / name


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """numba reads its cache folder when a function is decorated, so the setting need not outlive that."""
    before = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        _CONFIG.CACHE_DIR = before


def kernel(function: Function) -> Function:
    """Compile `function` with numba: no GIL, no fastmath (results must not depend on vector width), cached on disk."""
    with _cache_in(cache_folder()):
        return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))


def parallel_kernel(function: Function) -> Function:
    """As `kernel`, with `prange` loops spread over numba's threads (as many as `numba.set_num_threads` says)."""
    with _cache_in(cache_folder()):
        return cast(Function, njit(cache=True, nogil=True, error_model="numpy", parallel=True)(function))
