"""Read a file from compiled kernels without mapping it.

A file that is cut short is an ordinary error here; in a mapping it would raise SIGBUS and kill the process.
"""

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.core.native import INT, LONG, c_function

_ADDRESS, _DESCRIPTOR = range(2)
_ATTEMPTS = 8  # a signal may interrupt a read (EINTR); compiled code cannot see errno, so it retries on every error

_call_pread = c_function(LONG, [INT, LONG, LONG, LONG])


@kernel
def read_at(reader: NDArray[np.int64], start: int, out: NDArray[np.uint8]) -> bool:
    """Fill `out` with the file's bytes from `start` on; return False if the file is too short or the disk fails.

    Args:
        reader: int64 [2]: address of C's pread, descriptor of the file.
        out: flat uint8, C-contiguous, written.
    """
    place, done, failures = np.int64(out.ctypes.data), np.int64(0), 0
    # pread may return fewer bytes than requested, so read until `out` is full.
    while done < out.size:
        arguments = (reader[_DESCRIPTOR], place + done, np.int64(out.size) - done, np.int64(start) + done)
        got = _call_pread(reader[_ADDRESS], arguments)
        if got < 0 and failures + 1 < _ATTEMPTS:
            failures += 1
            continue
        if got <= 0:  # 0 is the end of the file
            return False
        done, failures = done + got, 0
    return True
