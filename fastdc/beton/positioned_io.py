"""Read and write an open file by position, in few system calls, and start writing back to disk early."""

import ctypes
import functools
import os
from collections.abc import Callable, Sequence

_MAX_BUFFERS = 1024  # IOV_MAX on Linux
_WRITE = 2  # SYNC_FILE_RANGE_WRITE


def write_all(descriptor: int, buffers: Sequence[bytes | memoryview], position: int) -> None:
    """Write buffers one after another from `position` on, in as few system calls as possible.

    Raises:
        OSError: the disk is full or fails.
    """
    left = list(buffers)
    while left:
        written = os.pwritev(descriptor, left[:_MAX_BUFFERS], position)
        position += written
        whole = 0
        while whole < len(left) and written >= len(left[whole]):
            written -= len(left[whole])
            whole += 1
        del left[:whole]
        if written:  # a nearly full disk accepts only part of a buffer; the next call then raises the reason
            left[0] = memoryview(left[0])[written:]


def read_range(descriptor: int, offset: int, size: int) -> bytes:
    """Read `size` bytes from `offset`; fewer only at the end of the file."""
    data = os.pread(descriptor, size, offset)  # may return fewer bytes than requested
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def start_writeback(descriptor: int, start: int, end: int) -> None:
    """Ask the kernel to start writing bytes [start, end) to disk, so that a later fsync has little left to do.

    Otherwise Linux starts seconds later, and the final fsync waits for the whole file. For 135 MB on a disk of 3 GB/s
    that wait is 50 of 430 ms; on a slow disk it is more than half. The call changes no content, so nothing is lost
    where it is not available.
    """
    call = _sync_file_range()
    if call is not None:
        call(descriptor, start, end - start, _WRITE)  # a failure is harmless: some file systems lack it


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Return Linux's sync_file_range, which Python's os module lacks; None on other systems."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return call
