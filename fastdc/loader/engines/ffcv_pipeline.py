"""FFCV's `Loader` with our own decoder, storage and order; the only module that imports ffcv.

It replaces these parts of FFCV:
* The decoder. It decodes coarsely, ignores errors and draws from an unseeded generator: `ViewDecoder`.
* The memory manager. It walks the allocation table in Python for seconds: `FileStorage`.
* The thread. It ends on an exception without informing the consumer, cannot be joined, and reuses the memory of
  batches that were already delivered: `EpochThread`, and buffers of our own.
* Importing ffcv and starting a loader change torch's and numba's thread counts for the whole process:
  `kept_thread_counts`.
"""

import atexit
import ctypes
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, NamedTuple, Protocol

import numba
import numba.typed
import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.errors import LoaderError
from fastdc.kernels.jpeg.streaming import decode_views
from fastdc.kernels.jpeg.turbojpeg import FUNCTIONS
from fastdc.loader.batches import batch_error
from fastdc.loader.buffers import Buffer
from fastdc.loader.engines.ffcv_support import kept_thread_counts, replaced

BATCHES_AHEAD = 2  # prepared while the consumer works on one
_POLL_SECONDS = 0.5


# At import, FFCV makes a numba dictionary of two numbers, which numba compiles for 3 to 5 s; a plain dict works too.
with kept_thread_counts(), replaced(numba.typed, "Dict", dict):
    import ffcv._libffcv
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import loader as ffcv_loader
    from ffcv.loader.epoch_iterator import EpochIterator
    from ffcv.memory_managers.base import MemoryContext, MemoryManager
    from ffcv.pipeline.compiler import Compiler
    from ffcv.pipeline.state import State
    from ffcv.traversal_order.base import TraversalOrder


def turbojpeg_addresses() -> NDArray[np.int64]:
    """Return the addresses of the TurboJPEG functions that our kernels call, from the library that FFCV links to."""
    library = ctypes.CDLL(ffcv._libffcv.__file__)
    return np.array([ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in FUNCTIONS], np.int64)


class StreamArrays(NamedTuple):
    """Arrays shared by all epochs of a stream, in the order of `kernels.jpeg.streaming`: the file and its views."""

    reader: NDArray[np.int64]
    library: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    modes: NDArray[np.uint8]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    views: NDArray[np.float64]
    seeds: NDArray[np.int64]
    sides: NDArray[np.int64]
    levels: NDArray[np.float32]


class EpochStorage(MemoryContext):  # type: ignore[misc]
    """Arrays that one epoch's decoder reads and writes; FFCV passes them to compiled code for every batch.

    Seed, epoch, view and thread count travel here, so a change of them needs no compilation. Two overlapping epochs
    cannot interfere with each other.

    Args:
        arrays: the arrays that all epochs share.
        numbers: int64 [2]: epoch, threads.
        decodes: uint32 [N], number of decodes of each sample.
    """

    def __init__(self, arrays: StreamArrays, numbers: NDArray[np.int64], decodes: NDArray[np.uint32]) -> None:
        self._arrays = (*arrays, numbers, decodes)
        self._batch = (np.zeros(0, np.uint8), np.zeros(0, np.uint8))

    @property
    def total(self) -> int:
        """Return the number of samples in the file."""
        return len(self._arrays[-1])

    def next_batch(self, states: NDArray[np.uint8], out: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        """Set and return the state for a batch that is written to `out`."""
        self._batch = states, out
        return self.state

    @property
    def state(self) -> tuple[NDArray[Any], ...]:
        return (*self._arrays, *self._batch)

    def __enter__(self) -> "EpochStorage":
        return self

    def __exit__(self, *problem: object) -> None:
        pass  # the arrays are freed with the last reference


class BatchMaker(Protocol):
    """Services that an epoch's thread needs from its stream."""

    def room(self, count: int) -> Buffer:
        """Return memory for a batch of `count` samples."""

    def finish(self, samples: NDArray[np.int64], states: NDArray[np.uint8], buffer: Buffer) -> tuple[torch.Tensor, ...]:
        """Return the batch that the decoder wrote to `buffer`; `states` [B] marks the samples it made.

        Raises:
            LoaderError: a sample cannot be decoded, or the file was changed.
        """


class FileStorage(MemoryManager):  # type: ignore[misc]
    """Memory manager that hands each epoch the storage set for it, and needs no allocation table."""

    def __init__(self, reader: Any) -> None:  # no super().__init__(): FFCV's would walk the allocation table
        self.reader = reader
        self.next_epoch: EpochStorage | None = None

    def schedule_epoch(self, batches: Sequence[Sequence[int]]) -> EpochStorage:
        assert self.next_epoch is not None, "EpochThread sets it"
        return self.next_epoch

    def compile_reader(self, *unused: object) -> None:
        return None  # our decoder reads the file through `StreamArrays`

    @property
    def state_type(self) -> None:
        return None


class FileOrder(TraversalOrder):  # type: ignore[misc]
    """Samples in file order; the real order of each epoch is passed to its `EpochThread`."""

    def __init__(self) -> None:
        self.num_samples = 0

    def __call__(self, loader: Any) -> "FileOrder":  # FFCV takes an instance and calls it
        self.num_samples = len(loader.indices)
        return self

    def sample_order(self, epoch: int) -> NDArray[np.int64]:
        return np.arange(self.num_samples)


class ViewDecoder(SimpleRGBImageDecoder):  # type: ignore[misc]
    """Decoder that also crops, resizes and mirrors.

    It subclasses the field's own decoder, because FFCV would otherwise put that one in front.
    """

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        # No memory from FFCV: it would reuse it while the consumer still holds it, and reallocate it in every epoch.
        return replace(previous_state, jit_mode=True, shape=(1, 1, 3), dtype=np.dtype("u1")), None

    def generate_code(self) -> Callable[..., Any]:
        return decode_views


class ViewPipeline(ffcv_loader.Loader):  # type: ignore[misc]
    """FFCV's loader of one file, for all views, seeds, epochs, batch sizes and thread counts.

    Args:
        path: the beton.
        operations: the image's pipeline.
    """

    def __init__(self, path: str, operations: Sequence[Any]) -> None:
        # A new list for each loader, because FFCV takes operations out of it. Labels are read by `BetonFile`.
        pipelines = {"image": list(operations), "label": None}
        with kept_thread_counts(), replaced(ffcv_loader, "OSCacheManager", FileStorage):
            super().__init__(
                path,
                batch_size=1,  # `EpochThread` sets the real one
                num_workers=1,
                os_cache=True,
                order=FileOrder(),
                seed=0,
                pipelines=pipelines,
                drop_last=False,
                batches_ahead=BATCHES_AHEAD,
            )
        self.lock = threading.Lock()

    def generate_code(self) -> None:
        # FFCV compiles a decoder's code again for each loader (3 to 15 s) and cannot cache it on disk. Ours is already
        # compiled.
        with replaced(Compiler, "is_enabled", False):
            super().generate_code()


# FFCV's threads are daemons: one that returns from torch's C++ code while Python shuts down aborts the process.
_RUNNING: "weakref.WeakSet[EpochThread]" = weakref.WeakSet()


@atexit.register
def _stop_epochs() -> None:
    """Stop every unfinished epoch before Python shuts down."""
    for thread in list(_RUNNING):
        thread.close()


class EpochThread(EpochIterator):  # type: ignore[misc]
    """FFCV's epoch iterator, with a thread that reports its end in every case.

    Args:
        pipeline: the compiled loader.
        samples: int64 [n], in order.
        batch_size: samples in a batch.
        threads: numba threads of the decoder.
        storage: the arrays that the decoder reads.
        maker: provides memory for each batch, and finishes the batch once the decoder has filled it.
    """

    def __init__(
        self,
        pipeline: ViewPipeline,
        samples: NDArray[np.int64],
        batch_size: int,
        threads: int,
        storage: EpochStorage,
        maker: "BatchMaker",
    ) -> None:
        self.threads, self.storage, self.maker = threads, storage, maker
        self.failure: BaseException | None = None
        self.current = samples[:0]
        self.output_queue: Queue[tuple[torch.Tensor, ...] | None]
        with pipeline.lock:  # FFCV's constructor takes these two values from attributes of the shared loader
            pipeline.batch_size = batch_size
            pipeline.memory_manager.next_epoch = storage
            super().__init__(pipeline, samples)
        _RUNNING.add(self)

    def run(self) -> None:
        """Make batches until stopped; None is the last item queued, after success, failure or a stop."""
        try:
            numba.set_num_threads(self.threads)  # per thread, so it has to be set in this one
            for number, samples in enumerate(self.iter_ixes):
                self.current = samples
                if not self._put(self._make(number, samples)):
                    return
        except BaseException as error:
            self.failure = error
        finally:
            self._put(None)

    def _make(self, number: int, samples: NDArray[np.int64]) -> tuple[torch.Tensor, ...]:
        buffer, states = self.maker.room(len(samples)), np.zeros(len(samples), np.uint8)
        self.storage_state = self.storage.next_batch(states, buffer.array)
        self.run_pipeline(number, samples, number % len(self.cuda_streams), None)
        self.storage_state = self.storage.next_batch(states, states)  # releases the buffer
        return self.maker.finish(samples, states, buffer)

    def _put(self, item: tuple[torch.Tensor, ...] | None) -> bool:
        """Queue `item`; return False if the consumer is gone."""
        while not self.terminate_event.is_set():
            try:
                self.output_queue.put(item, timeout=_POLL_SECONDS)
                return True
            except Full:
                continue
        return False

    def take(self, path: Path) -> tuple[torch.Tensor, ...]:
        """Return the next batch, owned by the caller.

        Raises:
            LoaderError: the thread failed or was closed.
        """
        while not self.terminate_event.is_set():
            try:
                views = self.output_queue.get(timeout=_POLL_SECONDS)
            except Empty:
                if self.is_alive():
                    continue
                views = None
            if views is None:
                raise batch_error(path, self.current % self.storage.total, self.failure)
            return views
        raise LoaderError(f"{path}: this loader was closed; open it again")

    def close(self) -> None:
        """Stop the thread and wait for it; at most the current batch is finished."""
        super().close()
        if not self.is_alive() or threading.current_thread() is self:
            return
        try:
            while True:  # emptying the queue wakes a thread that waits to put a batch
                self.output_queue.get_nowait()
        except Empty:
            pass
        self.join()
