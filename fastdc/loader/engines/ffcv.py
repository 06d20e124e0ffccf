"""The ffcv engine: images are read and decoded in every epoch, for betons that do not fit into memory."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.errors import LoaderError
from fastdc.kernels.jpeg.streaming import FAILED
from fastdc.loader.batches import ViewStream
from fastdc.loader.buffers import Buffer, BufferPool
from fastdc.loader.descriptor import StoredFile
from fastdc.loader.engines.ffcv_pipeline import (
    BATCHES_AHEAD,
    EpochStorage,
    EpochThread,
    StreamArrays,
    ViewDecoder,
    ViewPipeline,
    turbojpeg_addresses,
)
from fastdc.loader.file_checks import decode_sample
from fastdc.loader.stream import ViewPlan
from fastdc.loader.workers import Workers

_NUMBA: Any = numba.config  # numba sets its attributes at run time, so type checkers cannot see them

# Batches in the queue, one being made, one that the consumer works on, one that it holds back, one spare.
_BUFFERS = BATCHES_AHEAD + 4


def open_ffcv(file: StoredFile, plan: ViewPlan, workers: int) -> "FfcvStream":
    """Open a stream of the beton's views through FFCV; the stream closes `file`."""
    return FfcvStream(file, plan, workers, ViewPipeline(str(file.path), [ViewDecoder()]))


class FfcvStream(ViewStream):
    """Batches from FFCV's thread; samples that its fast decoder refuses go to the slower one of `BetonFile`."""

    engine = "ffcv"

    def __init__(self, file: StoredFile, plan: ViewPlan, workers: int, pipeline: ViewPipeline) -> None:
        self._file, self._plan, self._pipeline = file, plan, pipeline
        self.workers = min(workers, _NUMBA.NUMBA_NUM_THREADS)  # numba cannot run more threads than it started with
        self.labels = torch.from_numpy(file.labels)
        self.pool = BufferPool(_BUFFERS, plan.delivery.pinned)
        self.decodes = np.zeros(file.num_samples, np.uint32)
        self._arrays = StreamArrays(
            file.reader(),
            turbojpeg_addresses(),
            file.offsets,
            file.sizes,
            file.modes,
            file.heights,
            file.widths,
            plan.views,
            plan.seeds,
            plan.sides,
            plan.levels,
        )
        self._repairs = Repairs(self.workers)
        self._threads: weakref.WeakSet[EpochThread] = weakref.WeakSet()

    def batches(self, epoch: int, samples: NDArray[np.int64], batch_size: int) -> Iterator[tuple[torch.Tensor, ...]]:
        if len(samples) == 0:
            return
        storage = EpochStorage(self._arrays, np.array([epoch, self.workers], np.int64), self.decodes)
        maker = _Maker(self._file, self._plan, self.pool, self._repairs, epoch, self.decodes)
        thread = EpochThread(self._pipeline, samples, batch_size, self.workers, storage, maker)
        self._threads.add(thread)
        try:
            for _ in range(0, len(samples), batch_size):
                yield thread.take(self._file.path)
        finally:
            thread.close()

    def close(self) -> None:
        for thread in list(self._threads):
            thread.close()
        self._repairs.close()
        self._file.close()  # after the threads: the descriptor's number may be reused for another file
        self.pool.clear()


class _Maker:
    """`BatchMaker` of one epoch: takes buffers, and repairs and checks what the compiled decoder wrote."""

    def __init__(
        self,
        file: StoredFile,
        plan: ViewPlan,
        pool: BufferPool,
        repairs: "Repairs",
        epoch: int,
        decodes: NDArray[np.uint32],
    ) -> None:
        self._file, self._plan, self._pool, self._repairs = file, plan, pool, repairs
        self._epoch, self._decodes = epoch, decodes

    def room(self, count: int) -> Buffer:
        return self._plan.buffer(self._pool, count)

    def finish(self, samples: NDArray[np.int64], states: NDArray[np.uint8], buffer: Buffer) -> tuple[torch.Tensor, ...]:
        refused = np.flatnonzero(states == FAILED)
        if refused.size:
            self._repairs.run(lambda position: self._remake(samples, position, buffer), refused.tolist())
        # After the reads: a change made during them shows now.
        self._file.check_unchanged(int(samples[-1]) % self._file.num_samples)
        return self._plan.tensors(buffer, len(samples))

    def _remake(self, samples: NDArray[np.int64], position: int, buffer: Buffer) -> None:
        """Make the views of a sample that the fast decoder refused.

        Raises:
            LoaderError: the slower decoder cannot decode it either.
        """
        visit = int(samples[position])
        sample = visit % self._file.num_samples
        image = decode_sample(self._file, sample)
        self._decodes[sample] += 1
        self._plan.make(image, self._epoch, visit, position, len(samples), buffer.array)


class Repairs:
    """Threads for samples that the fast decoder refuses, started on first use."""

    def __init__(self, workers: int) -> None:
        self._pool = Workers(workers, thread_name_prefix="fastdc-repair")

    def run(self, remake: Callable[[int], None], positions: list[int]) -> None:
        """Remake all `positions`.

        Raises:
            LoaderError: the error of the first position, in order, that cannot be made.
        """
        if len(positions) == 1:
            remake(positions[0])
            return
        try:
            jobs = [self._pool.submit(remake, position) for position in positions]
        except RuntimeError as error:  # Python is shutting down
            raise LoaderError("this loader was closed; open it again") from error
        try:
            for job in jobs:
                self._pool.wait(job)
        finally:
            for job in jobs:
                job.cancel()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()
