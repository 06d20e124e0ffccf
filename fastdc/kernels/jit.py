"""The one decorator of our numba kernels: compiled once per machine, kept on disk, never stale.

numba keeps a compiled kernel for as long as the file that holds it is unchanged, but compiled code also contains the
kernels it calls from other files. A fix in `boxes.py` would therefore not reach a cached kernel in `batches.py`. So the
cache folder's name holds a hash of every source file in this room: any change there starts a new folder. And numba
falls back, without a word, to a folder whose name holds no hash: so the folder is chosen, and tried, here.
"""

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name  # type: ignore[import-untyped]
from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])

_CONFIG: Any = numba.config  # its attributes are made at run time, which type checkers cannot see
_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def cache_folder() -> Path | None:
    """The first folder for compiled kernels that can be written; None where there is none at all.

    NUMBA_CACHE_DIR if set, else inside the package, else the user's cache folder, else the temporary folder. The name
    holds the CPU too: numba tells CPU models apart, but loses that race when two of them fill one shared folder.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).resolve().parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    digest.update(f"{numba.__version__} {get_host_cpu_name()} {get_host_cpu_features().flatten()}".encode())
    name = f"kernels-{digest.hexdigest()[:16]}"
    for candidate in _candidates():
        folder = candidate / name
        if _writable(folder):
            return folder
    return None


def _candidates() -> Iterator[Path]:
    if _CONFIG.CACHE_DIR:
        yield Path(_CONFIG.CACHE_DIR)
    yield _PACKAGE / "__pycache__"
    user = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if user.is_absolute():  # without a home the "~" stays
        yield user / "fastdc"
    yield Path(tempfile.gettempdir()) / f"fastdc-{os.getuid()}"


def _writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which is made if missing. Only trying tells (root, read-only mounts)."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder.stat().st_uid in (os.getuid(), 0)  # compiled code of a stranger is not to be run
    except OSError:
        return False


@contextmanager
def _cache_in(folder: Path | None) -> Iterator[None]:
    """numba reads its cache folder when a function is decorated, so the setting need not outlive that."""
    before = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = str(folder or "")
    try:
        yield
    finally:
        _CONFIG.CACHE_DIR = before


def kernel(function: Function) -> Function:
    """Compile `function` with numba: no GIL, no fastmath (results must not depend on vector width), cached on disk."""
    return _compile(function, parallel=False)


def parallel_kernel(function: Function) -> Function:
    """As `kernel`, with `prange` loops spread over numba's threads (as many as `numba.set_num_threads` says)."""
    return _compile(function, parallel=True)


def _compile(function: Function, parallel: bool) -> Function:
    folder = cache_folder()
    with _cache_in(folder):
        decorate = njit(cache=folder is not None, nogil=True, error_model="numpy", parallel=parallel)
        return cast(Function, decorate(function))
