"""Compile numba kernels once per machine and cache them on disk, without ever loading stale code.

numba keeps a compiled kernel for as long as the file that defines it is unchanged. But the compiled code also contains
the kernels that it calls from other files. A fix in `boxes.py` would not reach a cached kernel in `view_batches.py`.
The name of the cache folder therefore holds a hash of every source file of `fastdc.kernels`: any change there starts a
new folder. numba also falls back silently to a folder whose name holds no hash. This module therefore picks and tests
the folder itself.
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

from fastdc.kernels.core.cache import KernelCache, damaged_files, kernel_files, warn_once

Function = TypeVar("Function", bound=Callable[..., object])

PROBE_BYTES = 1 << 16
_CONFIG: Any = numba.config  # numba sets its attributes at run time, so type checkers cannot see them
_KERNELS = Path(__file__).resolve().parents[1]
_PACKAGE = _KERNELS.parent


@functools.cache
def cache_folder() -> Path | None:
    """Return the first writable folder for compiled kernels, or None if there is none.

    Candidates, in order: NUMBA_CACHE_DIR if set, the package itself, the user's cache folder, the temporary folder. The
    folder's name also identifies the CPU. numba distinguishes CPU models, but its index loses entries when two models
    write to one shared folder at the same time. Warns if NUMBA_CACHE_DIR cannot be used, and when a new folder replaces
    one that was in use.
    """
    name, passed = _folder_name(), list[str]()
    for candidate in _candidates():
        folder = candidate / name
        # Only a folder that the user named, or that already exists, is worth a warning when it cannot be used.
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
    """Return the folder of compiled kernels ("" if none), its number of files and the names of damaged ones."""
    folder = cache_folder()
    if folder is None:
        return "", 0, []
    return str(folder), len(kernel_files(folder)), [path.name for path in damaged_files(folder)]


def _folder_name() -> str:
    digest = hashlib.sha256()
    for source in sorted(_KERNELS.rglob("*.py")):
        digest.update(source.relative_to(_KERNELS).as_posix().encode() + b"\0" + source.read_bytes())
    digest.update(f"{numba.__version__} {get_host_cpu_name()} {get_host_cpu_features().flatten()}".encode())
    return f"kernels-{digest.hexdigest()[:16]}"


def _candidates() -> Iterator[Path]:
    if _CONFIG.CACHE_DIR:
        yield Path(_CONFIG.CACHE_DIR)
    yield _PACKAGE / "__pycache__"
    user = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if user.is_absolute():  # without a home directory, expanduser leaves the "~" in place
        yield user / "fastdc"
    yield Path(tempfile.gettempdir()) / f"fastdc-{os.getuid()}"


def _write_problem(folder: Path) -> str | None:
    """Return why `folder`, created if missing, cannot be written; None if it can.

    Only a trial write is reliable: permission bits do not cover root, read-only mounts and full disks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
        is_ours = folder.stat().st_uid in (os.getuid(), 0)  # st_uid 0: an image or package installed by root
        return None if is_ours else "it belongs to another user"  # loading it would run that user's machine code
    except OSError as error:
        return error.strerror or str(error)


def kernel(function: Function) -> Function:
    """Compile `function` with numba and cache it on disk.

    It releases the GIL. fastmath is off, so that results do not depend on the CPU's vector width.
    """
    return _compile(function, parallel=False)


def parallel_kernel(function: Function) -> Function:
    """Compile `function` like `kernel`, with `prange` loops spread over numba's threads.

    `numba.set_num_threads` sets their number.
    """
    return _compile(function, parallel=True)


def _compile(function: Function, parallel: bool) -> Function:
    dispatcher: Any = njit(nogil=True, error_model="numpy", parallel=parallel)(function)
    if (folder := cache_folder()) is not None:
        # Same effect as njit(cache=True), but with our folder and checked files.
        dispatcher._cache = KernelCache(function, folder)
    return cast(Function, dispatcher)
