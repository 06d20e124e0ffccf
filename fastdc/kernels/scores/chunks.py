"""Process all samples of an epoch-major array in chunks, on every CPU."""

import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.common.threads import usable_cpus
from fastdc.kernels.core.jit import kernel

CHUNK = 65536
"""Samples per task: 256 KiB of each epoch of a float32 field, enough for efficient disk reads."""

BLOCK = 256
"""Samples that a kernel processes at once, so that all of their epochs stay in a core's cache."""


class Rows(NamedTuple):
    """An epoch-major array as one contiguous, read-only vector, so that kernels copy it with vector instructions.

    Attributes:
        line: float [(T - 1) * step + N]; epoch t of sample i is line[t * step + i].
        step: entries from one epoch to the next; in the log, fields * N.
        epochs: T.
        samples: N.
    """

    line: NDArray[Any]
    step: int
    epochs: int
    samples: int


def rows_of(values: NDArray[Any]) -> Rows:
    """Return `values` [T, N] as `Rows`.

    It is a view if an epoch's samples are adjacent in memory, as in the log's fields; otherwise a copy.
    """
    rows, itemsize = np.asarray(values), values.dtype.itemsize
    # `line` can only be addressed with a whole, non-negative step between epochs.
    adjacent = rows.strides[1] == itemsize and rows.strides[0] >= 0 and rows.strides[0] % itemsize == 0
    if not adjacent:
        rows = np.ascontiguousarray(rows)
    step = rows.strides[0] // itemsize
    length = (rows.shape[0] - 1) * step + rows.shape[1]
    line = np.lib.stride_tricks.as_strided(rows, (length,), (itemsize,), writeable=False)
    return Rows(line, step, *rows.shape)


def over_samples(work: Callable[[int, int], Any], num_samples: int, chunk: int = CHUNK) -> None:
    """Call `work(start, stop)` for chunks that cover all samples.

    Chunks are independent, so the number of threads does not change the result. It uses plain threads because the
    kernels release the GIL and numba's pool is sized by the loader.

    Args:
        work: handles samples start..stop-1.
        num_samples: samples in all.
        chunk: most samples per call; fewer if some thread would be idle.
    """
    workers = usable_cpus()
    size = min(chunk, max(1024, -(-num_samples // workers)))
    if num_samples <= size:
        work(0, num_samples)
        return
    with ThreadPoolExecutor(workers) as pool:
        # list() waits for every chunk and re-raises the first error.
        list(pool.map(lambda start: work(start, min(start + size, num_samples)), range(0, num_samples, size)))


def over_rows(work: Callable[[int, int], Any], rows: Rows) -> None:
    """Call `over_samples` for work that reads `rows`.

    If they are a read-only file mapping, all epochs of a chunk are prefetched at once, which keeps the disk busy. Its
    pages are released afterwards, so that a log of many gigabytes never counts as this process's memory.
    """
    mapping = _mapping_of(rows.line)
    if mapping is None:
        return over_samples(work, rows.samples)
    begin = rows.line.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
    itemsize = rows.line.itemsize

    def task(start: int, stop: int) -> None:
        for epoch in range(rows.epochs):
            first = begin + (epoch * rows.step + start) * itemsize
            page = first - first % mmap.PAGESIZE
            mapping.madvise(mmap.MADV_WILLNEED, page, first - page + (stop - start) * itemsize)
        work(start, stop)
        mapping.madvise(mmap.MADV_DONTNEED)

    return over_samples(task, rows.samples)


def _mapping_of(array: Any) -> mmap.mmap | None:
    """Return the read-only file mapping under an array, or None.

    Dropping the pages of a read-only mapping loses no data.
    """
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    if array is None:
        return None
    # mmap has no attribute for its access mode, but a memoryview of it does.
    with memoryview(array) as view:
        return array if view.readonly else None


@kernel
def load_block(line: NDArray[Any], step: int, epochs: int, start: int, width: int, block: NDArray[np.float64]) -> None:
    """Copy samples start..start+width-1 of `Rows` into `block` [T, >= width] as float64."""
    for epoch in range(epochs):
        begin = epoch * step + start
        source, target = line[begin : begin + width], block[epoch]
        for i in range(width):
            target[i] = source[i]
