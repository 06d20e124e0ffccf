"""Read and hash a folder's files many at a time, by compiled code."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.images import Rgb
from fastdc.beton.sources.source import FetchImage
from fastdc.beton.sources.trees import FileFetch

BUFFER_BYTES = 8 << 20
_FROM_IMAGES, _FROM_IMAGES_IF_LOADED = 30_000, 2000


class HashedFile(NamedTuple):
    """Bytes of a file, and their SHA-256."""

    data: bytes
    sha256: bytes


FetchHashed = Callable[[], bytes | Rgb | HashedFile]


def choose_reading(images: int) -> "ReadAhead | None":
    """Return a way to read the files of a set of `images` images; None if it saves no time, or a C function is missing.

    Loading numba and the kernel takes 0.45 s, unless this process has numba already. A file saves 14 us on two cores.
    """
    if images < (_FROM_IMAGES_IF_LOADED if "numba" in sys.modules else _FROM_IMAGES):
        return None
    from fastdc.kernels.files.whole_files import FUNCTIONS

    try:
        import _hashlib  # the lookup includes its dependencies, and so the OpenSSL that hashlib uses

        libraries = ctypes.CDLL(None), ctypes.CDLL(_hashlib.__file__)
        functions = [getattr(libraries[name.isupper()], name) for name in FUNCTIONS]
    except (ImportError, OSError, AttributeError):  # not Linux, or a function is not exported
        return None
    return ReadAhead(np.array([ctypes.cast(function, ctypes.c_void_p).value for function in functions], np.int64))


class ReadAhead:
    """Reader of files of a folder, all in one call; any number of threads may use it at once.

    Args:
        library: addresses of C functions, see `read_files`.
    """

    def __init__(self, library: NDArray[np.int64]) -> None:
        from fastdc.kernels.files.whole_files import HASH_BYTES, read_files

        self._read, self._library, self._hash_bytes = read_files, library, HASH_BYTES
        self._own = _Own()

    def __call__(self, fetches: Sequence[FetchImage]) -> list[FetchHashed]:
        """Return readers of the same images; those of the first files have read them already.

        The first file that cannot just be read, and all after it, are left to their own readers, which raise its error.
        """
        names = [os.fsencode(path) + b"\0" for path in _first_paths(fetches)]
        if not names:
            return list(fetches)
        starts, ends = np.cumsum([0, *map(len, names)])[:-1], np.empty(len(names), np.int64)
        hashes, buffer = np.empty((len(names), self._hash_bytes), np.uint8), self._own.buffer
        paths = np.frombuffer(b"".join(names), np.uint8)
        count = self._read(self._library, paths, starts, buffer, ends, hashes)
        data, bounds = buffer.data, [0, *ends[:count].tolist()]
        read = [HashedFile(bytes(data[start:end]), bytes(hashes[n])) for n, (start, end) in enumerate(pairwise(bounds))]
        return [*(partial(_same, each) for each in read), *fetches[count:]]


class _Own(threading.local):
    """Buffer of each thread, which is kept because fresh memory costs 3 us a file."""

    def __init__(self) -> None:
        self.buffer = np.empty(BUFFER_BYTES, np.uint8)


def _first_paths(fetches: Sequence[FetchImage]) -> Iterator[str]:
    """Yield the paths of files, up to the first image that is not one."""
    for fetch in fetches:
        if not isinstance(fetch, FileFetch):
            return
        yield fetch.path


def _same(file: HashedFile) -> HashedFile:
    return file
