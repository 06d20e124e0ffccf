"""The resident engine: images are decoded once per process and kept in memory; epochs only crop and resize."""

from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.errors import LoaderError
from fastdc.common.threads import loader_cpus
from fastdc.kernels.views.view_batches import finished_share, resident_share
from fastdc.loader.batches import ViewStream, batch_error
from fastdc.loader.buffers import Buffer, BufferPool
from fastdc.loader.descriptor import StoredFile
from fastdc.loader.engines.decoded import DecodedImages, decode_all, finish_views, resident_bytes, resident_key
from fastdc.loader.image_cache import CACHE
from fastdc.loader.stream import ViewPlan
from fastdc.loader.view_settings import EvalView, View
from fastdc.loader.workers import Workers

# Waking a thread costs about 0.1 ms. Two threads gain from twice this many bytes of 8-bit levels on.
_BYTES_WORTH_A_THREAD = 100_000
_BYTES_WORTH_READING_AHEAD = 1_000_000
_BUFFERS = 5


def open_resident(file: StoredFile, plan: ViewPlan, workers: int) -> "ResidentStream":
    """Open a resident stream; decode the file with `workers` threads unless this process has already done so.

    Raises:
        LoaderError: an image cannot be decoded.
    """
    images: DecodedImages | None = None
    finished: dict[View, NDArray[np.uint8]] = {}
    for request in plan.requests:
        view = request.view
        key, size = resident_key(file.identity, view), resident_bytes(file, view)
        if isinstance(view, EvalView):
            finished[view] = CACHE.get(key, size, lambda view=view: finish_views(file, view, workers))  # type: ignore[misc]
        elif images is None:
            images = CACHE.get(key, size, lambda: decode_all(file, workers))
    return ResidentStream(file, plan, workers, images, finished)


class ResidentStream(ViewStream):
    """Batches made on demand from images in memory.

    Args:
        images: decoded images; None if only validation views are requested.
        finished: for each requested validation view, uint8 [N, S * S * 3].
    """

    engine = "resident"

    def __init__(
        self,
        file: StoredFile,
        plan: ViewPlan,
        workers: int,
        images: DecodedImages | None,
        finished: dict[View, NDArray[np.uint8]],
    ) -> None:
        self.images, self.finished = images, finished
        self.labels = torch.from_numpy(file.labels)
        self.decodes = np.ones(file.num_samples, np.uint32)
        self.pool = BufferPool(_BUFFERS, plan.delivery.pinned)
        self.workers, self.closed = workers, False
        self._path, self._plan = file.path, plan
        self._cpus = loader_cpus()
        self._threads = Workers(max(workers - 1, 1), thread_name_prefix="fastdc-resident")
        self._reader = Workers(1, thread_name_prefix="fastdc-ahead")

    def batches(self, epoch: int, samples: NDArray[np.int64], batch_size: int) -> Iterator[tuple[torch.Tensor, ...]]:
        parts = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
        ahead: Future[tuple[torch.Tensor, ...]] | None = None
        try:
            for number, chosen in enumerate(parts):
                if self.closed:
                    raise LoaderError(f"{self._path}: this loader was closed; open it again")
                made = self._made(chosen, epoch, ahead)
                ahead = None
                if number + 1 < len(parts) and self._reads_ahead(len(chosen)):
                    ahead = self._reader.submit(self._make, parts[number + 1], epoch)
                yield made
                del made  # this reference would keep the consumer's buffer from being reused
        finally:
            if ahead is not None:
                ahead.cancel()

    def _reads_ahead(self, count: int) -> bool:
        """Return whether to make the next batch while the consumer works: if it is large and some CPU is idle.

        For a consumer that computes on every CPU it only costs time: its threads wait for the one that was held up.
        """
        # Pinned batches mean that the consumer computes on a GPU, so CPUs are free.
        spare = self._plan.delivery.pinned or torch.get_num_threads() < self._cpus
        return spare and self._plan.batch_bytes(count) >= _BYTES_WORTH_READING_AHEAD

    def _made(
        self, samples: NDArray[np.int64], epoch: int, ahead: Future[tuple[torch.Tensor, ...]] | None
    ) -> tuple[torch.Tensor, ...]:
        """Return the batch of `samples`, from `ahead` if given, else made now.

        Raises:
            LoaderError: it cannot be made; names the samples.
        """
        try:
            return self._make(samples, epoch) if ahead is None else self._reader.wait(ahead)
        except (Exception, CancelledError) as error:
            if self.closed:
                raise LoaderError(f"{self._path}: this loader was closed; open it again") from error
            raise batch_error(self._path, samples % len(self.labels), error) from error

    def _make(self, samples: NDArray[np.int64], epoch: int) -> tuple[torch.Tensor, ...]:
        # This thread makes one share and the pool the others; a tiny batch is a single share.
        plan, count = self._plan, len(samples)
        buffer = plan.buffer(self.pool, count)
        levels = plan.batch_bytes(count) // plan.delivery.item_bytes
        shares = max(min(self.workers, count, levels // _BYTES_WORTH_A_THREAD), 1)
        others = [
            self._threads.submit(self._share, samples, epoch, share, shares, buffer) for share in range(1, shares)
        ]
        self._share(samples, epoch, 0, shares, buffer)
        for other in others:
            self._threads.wait(other)
        return plan.tensors(buffer, count)

    def _share(self, samples: NDArray[np.int64], epoch: int, share: int, shares: int, buffer: Buffer) -> None:
        """Make the views of every `shares`-th sample of a batch."""
        plan, random, out = self._plan, self._plan.random, buffer.array
        if self.images is not None:
            views, seeds, sides = plan.views[:random], plan.seeds[:random], plan.sides[:random]
            resident_share(*self.images, samples, views, seeds, sides, plan.levels, epoch, share, shares, out)
        start = sum(plan.view_bytes(number) for number in range(random)) * len(samples)
        for number, request in enumerate(plan.requests[random:], random):
            end = start + plan.view_bytes(number) * len(samples)
            finished_share(self.finished[request.view], samples, plan.levels, share, shares, out[start:end])
            start = end

    def close(self) -> None:
        self.closed = True
        self._reader.shutdown(cancel_futures=True)  # first, because its job waits for the other threads
        self._threads.shutdown()
        self.pool.clear()
