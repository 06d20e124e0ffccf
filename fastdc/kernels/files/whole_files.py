"""Read and hash many small files in one call of compiled code, without the GIL.

Python takes and drops the GIL five times per file. With several threads that costs more than reading the file.
Sources: open(2), statx(2), pread(2), SHA256(3ssl).
"""

import os

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.core.native import INT, LONG, c_function
from fastdc.kernels.files.pread import read_at

FUNCTIONS = ("open", "statx", "pread", "close", "SHA256")
"""C functions whose addresses `library` holds, in this order."""
_OPEN, _STATX, _PREAD, _CLOSE, _SHA256 = range(5)
HASH_BYTES = 32

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # opening a FIFO must not block
_EMPTY_PATH, _TYPE_AND_SIZE = 0x1000, 0x201  # AT_EMPTY_PATH: stat the descriptor itself; STATX_TYPE | STATX_SIZE
_REGULAR, _KIND = 0x8000, 0xF000  # S_IFREG, S_IFMT

_call_open = c_function(INT, [LONG, INT])
_call_statx = c_function(INT, [INT, LONG, INT, INT, LONG])
_call_close = c_function(INT, [INT])
_call_sha256 = c_function(LONG, [LONG, LONG, LONG])


@kernel
def read_files(
    library: NDArray[np.int64],
    paths: NDArray[np.uint8],
    starts: NDArray[np.int64],
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
    hashes: NDArray[np.uint8],
) -> int:
    """Read files one after the other, up to the first that is unreadable, empty, not a regular file, or does not fit.

    Args:
        library: [5] addresses of `FUNCTIONS`.
        paths: the files' paths, each ending in a zero byte.
        starts: [N] where each path begins in `paths`.
        out: flat uint8, C-contiguous; the files' bytes are written here, without gaps.
        ends: int64 [N], written: where each file ends in `out`.
        hashes: uint8 [N, HASH_BYTES], C-contiguous, written: SHA-256 of each file.

    Returns:
        Number of files read, 0..N; `out`, `ends` and `hashes` are undefined beyond them.
    """
    state = np.zeros(32, np.int64)  # struct statx has 256 bytes
    reader = np.zeros(2, np.int64)
    reader[0] = library[_PREAD]
    end = 0
    for number in range(starts.size):
        path = np.int64(paths.ctypes.data) + starts[number]
        size = _read_file(library, path, state, reader, out[end:])
        if size <= 0:
            return number
        place, target = np.int64(out.ctypes.data) + end, np.int64(hashes.ctypes.data) + HASH_BYTES * number
        _call_sha256(library[_SHA256], (place, np.int64(size), target))
        end += size
        ends[number] = end
    return int(starts.size)


@kernel
def _read_file(
    library: NDArray[np.int64], path: int, state: NDArray[np.int64], reader: NDArray[np.int64], out: NDArray[np.uint8]
) -> int:
    """Read a whole file into `out` and return its size; -1 if it is unreadable, not a regular file or too large."""
    descriptor = _call_open(library[_OPEN], (np.int64(path), np.int64(_FLAGS)))
    if descriptor < 0:
        return -1
    size = _regular_size(library, descriptor, state)
    reader[1] = descriptor
    whole = 0 < size <= out.size and read_at(reader, 0, out[:size])
    _call_close(library[_CLOSE], (np.int64(descriptor),))
    return size if whole else -1


@kernel
def _regular_size(library: NDArray[np.int64], descriptor: int, state: NDArray[np.int64]) -> int:
    """Return the size of the open file; -1 if it is not a regular file.

    It calls statx because the layout of its struct, unlike that of fstat, is the same on all systems.
    """
    place = np.int64(state.ctypes.data)
    nothing = place + 248  # the struct's last bytes are spare: a zero there serves as the empty path
    state[31] = 0
    arguments = (np.int64(descriptor), nothing, np.int64(_EMPTY_PATH), np.int64(_TYPE_AND_SIZE), place)
    code = _call_statx(library[_STATX], arguments)
    # struct statx: stx_mode is the 16-bit word at byte 28, stx_size the 64-bit word at byte 40.
    mode = (state[3] >> 32) & _KIND
    return int(state[5]) if code == 0 and mode == _REGULAR else -1
