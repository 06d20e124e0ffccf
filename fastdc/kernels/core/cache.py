"""A safe version of numba's disk cache: damaged files, a full disk or a read-only folder only cost a compilation.

It builds on `numba.core.caching`. Those classes pass on any error that unpickling a damaged file raises, at every start
until the file is removed.
"""

import functools
import hashlib
import importlib
import pickle
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numba.core import caching

from fastdc.common.log import log_message
from fastdc.common.text import one_line

_CACHING: Any = caching  # only about half of it is typed
DIGEST_BYTES = 16
SUFFIXES = (".nbi", ".nbc")  # numba's index and data files
_warned = False


class DamagedFileError(Exception):
    """A file of the cache does not hold what was written."""


def warn_once(message: str) -> None:
    """Print a warning about the cache, only the first time in this process.

    Later warnings would repeat it for other kernels.
    """
    global _warned
    if not _warned:
        _warned = True
        log_message(f"warning: {message}")


def damaged_files(folder: Path) -> Iterator[Path]:
    """Yield the cache files that are unreadable or damaged."""
    for path in kernel_files(folder):
        try:
            _read(path)
        except (OSError, DamagedFileError):
            yield path


def kernel_files(folder: Path) -> list[Path]:
    """List the cache files in `folder`, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    if _digest(data[DIGEST_BYTES:]) != data[:DIGEST_BYTES]:
        raise DamagedFileError(f"{path.name} is damaged")
    return data[DIGEST_BYTES:]


@functools.cache
def _load_array_functions() -> None:
    """Load numba's array functions without scipy.linalg, which takes 0.2 s and which no kernel of ours needs.

    numba imports it there only to learn whether it is installed. A numba without that check needs no such care.
    """
    linalg: Any = importlib.import_module("numba.np.linalg")
    check = getattr(linalg, "ensure_blas", None)
    if check is None:
        return
    if find_spec("scipy") is not None:
        linalg.ensure_blas = lambda: None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = check


class _CheckedFiles(_CACHING.IndexDataCacheFile):  # type: ignore[misc]
    """Index and data files of the cache, each preceded by a hash of its content.

    Without the hash, damaged machine code would be executed.
    """

    def _load_index(self) -> Any:
        try:
            stamp, version, overloads = pickle.loads(_read(Path(self._index_path)))
        except FileNotFoundError:
            return {}
        return overloads if (stamp, version) == (self._source_stamp, self._version) else {}

    def _save_index(self, overloads: Any) -> None:
        self._write(self._index_path, (self._source_stamp, self._version, overloads))

    def _load_data(self, name: str) -> Any:
        return pickle.loads(_read(Path(self._data_path(name))))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _write(self, path: str, value: Any) -> None:
        data = self._dump(value)
        with self._open_for_write(path) as handle:
            handle.write(_digest(data) + data)

    def remove(self) -> None:
        """Remove the index, so that every overload is compiled and saved again."""
        with suppress(OSError):
            Path(self._index_path).unlink(missing_ok=True)


class _Locator(_CACHING._SourceFileBackedLocatorMixin, _CACHING._CacheLocator):  # type: ignore[misc]
    """Locator that returns the folder picked by `jit.cache_folder`; numba's own would silently take another."""

    folder = ""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return self.folder

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        return cls(py_func, py_file)


class _Results(_CACHING.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class KernelCache(_CACHING.FunctionCache):  # type: ignore[misc]
    """Disk cache of one kernel's compiled overloads, in `folder`."""

    _impl_class = _Results

    def __init__(self, function: Any, folder: Path) -> None:
        # FunctionCache builds its locator itself, so the folder reaches it through the class.
        _Locator.folder = str(folder)
        super().__init__(function)
        self._cache_file: Any = _CheckedFiles(
            self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        _load_array_functions()
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # unpickling and LLVM raise errors of any type
            reason = one_line(error)[:200]
            warn_once(f"{self._cache_path}: {reason}; these compiled kernels are made again")
            self._cache_file.remove()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            warn_once(
                f"{self._cache_path}: compiled kernels cannot be kept ({error.strerror or error}) and are made again "
                "at every start; free space or remove this folder"
            )
