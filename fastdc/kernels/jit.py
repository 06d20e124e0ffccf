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
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name  # type: ignore[import-untyped]
from numba import njit

from fastdc.kernels.cache import KernelCache, damaged_files, kernel_files, warn_once

Function = TypeVar("Function", bound=Callable[..., object])

PROBE_BYTES = 1 << 16
_CONFIG: Any = numba.config  # its attributes are made at run time, which type checkers cannot see
_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def cache_folder() -> Path | None:
    """Return the first folder for compiled kernels that can be written; None where there is none at all.

    NUMBA_CACHE_DIR if set, else inside the package, else the user's cache folder, else the temporary folder. The name
    holds the CPU too: numba tells CPU models apart, but loses that race when two of them fill one shared folder.
    A warning is given where NUMBA_CACHE_DIR cannot be used, and where another folder takes the place of one in use.
    """
    name, passed = _folder_name(), list[str]()
    for candidate in _candidates():
        folder = candidate / name
        is_asked, is_known = candidate == Path(_CONFIG.CACHE_DIR or os.devnull), os.path.lexists(folder)
        problem = _write_problem(folder)
        if problem is None:
            if passed and (_CONFIG.CACHE_DIR or not is_known):
                warn_once(f"{passed[0]}; they are kept in {folder}")
            return folder
        if is_asked or is_known:
            passed.append(f"{folder}: compiled kernels cannot be kept ({problem})")
    if not passed:
        passed.append(f"{_PACKAGE}, ~/.cache, {tempfile.gettempdir()}: compiled kernels cannot be kept")
    warn_once(f"{passed[0]} and are made again at every start; free space, or set NUMBA_CACHE_DIR to another folder")
    return None


def examine_cache() -> tuple[str, int, list[str]]:
    """Return the folder of compiled kernels ("" for none), how many files it has, and the names of damaged ones."""
    folder = cache_folder()
    if folder is None:
        return "", 0, []
    return str(folder), len(kernel_files(folder)), [path.name for path in damaged_files(folder)]


def _folder_name() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).resolve().parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    digest.update(f"{numba.__version__} {get_host_cpu_name()} {get_host_cpu_features().flatten()}".encode())
    return f"kernels-{digest.hexdigest()[:16]}"


def _candidates() -> Iterator[Path]:
    if _CONFIG.CACHE_DIR:
        yield Path(_CONFIG.CACHE_DIR)
    yield _PACKAGE / "__pycache__"
    user = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if user.is_absolute():  # without a home the "~" stays
        yield user / "fastdc"
    yield Path(tempfile.gettempdir()) / f"fastdc-{os.getuid()}"


def _write_problem(folder: Path) -> str | None:
    """Return why nothing can be kept in `folder`, which is made if missing; None where it can.

    Only trying tells: of root, read-only mounts, full disks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
        is_ours = folder.stat().st_uid in (os.getuid(), 0)
        return None if is_ours else "it belongs to another user"  # compiled code of a stranger is not to be run
    except OSError as error:
        return error.strerror or str(error)


def kernel(function: Function) -> Function:
    """Compile `function` with numba: no GIL, no fastmath (results must not depend on vector width), cached on disk."""
    return _compile(function, parallel=False)


def parallel_kernel(function: Function) -> Function:
    """As `kernel`, with `prange` loops spread over numba's threads (as many as `numba.set_num_threads` says)."""
    return _compile(function, parallel=True)


def _compile(function: Function, parallel: bool) -> Function:
    dispatcher: Any = njit(nogil=True, error_model="numpy", parallel=parallel)(function)
    if (folder := cache_folder()) is not None:
        dispatcher._cache = KernelCache(function, folder)
    return cast(Function, dispatcher)
