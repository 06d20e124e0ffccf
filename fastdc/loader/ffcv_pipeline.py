"""FFCV's `Loader` with our own decoder, storage and order plugged in; the only module that imports ffcv.

What of FFCV's behaviour is replaced here, and why (numbers: reference/loading.md, section 1):
* its decoder decodes coarsely, ignores errors and draws from an unseeded generator (8, C1-F5): `ViewDecoder`;
* its memory manager walks the allocation table in Python for seconds (32): `FileStorage`;
* its thread dies of an exception without telling the consumer, cannot be joined, and reuses the memory of batches that
  were already given out (2, 3, 21, 24, C1-F6): `EpochThread`, and batches that are new arrays;
* importing it and starting a loader sets torch's and numba's thread counts for the whole process: `kept_thread_counts`.
"""

import atexit
import ctypes
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, NamedTuple, Protocol

import numba
import numba.typed
import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.errors import LoaderError
from fastdc.kernels.streaming import decode_views
from fastdc.kernels.turbojpeg import FUNCTIONS
from fastdc.loader.batches import batch_error
from fastdc.loader.buffers import Buffer
from fastdc.threads import prepare_numba

BATCHES_AHEAD = 2  # prepared while the consumer works on one
_POLL_SECONDS = 0.5
_GLOBALS_LOCK = threading.RLock()


@contextmanager
def kept_thread_counts() -> Iterator[None]:
    """Undo what the block does to torch's thread count and to numba's for this thread."""
    prepare_numba()
    torch_threads, numba_threads = torch.get_num_threads(), numba.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        numba.set_num_threads(numba_threads)


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Another value for one of FFCV's or numba's globals while the block runs; one block at a time."""
    with _GLOBALS_LOCK:
        before = getattr(owner, name)
        setattr(owner, name, value)
        try:
            yield
        finally:
            setattr(owner, name, before)


# FFCV keeps two numbers in a numba dictionary, whose code numba compiles at import for 3 to 5 s; a dict does as well.
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
    """Addresses of the TurboJPEG functions that our kernels call, from the library that FFCV is linked with."""
    library = ctypes.CDLL(ffcv._libffcv.__file__)
    return np.array([ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in FUNCTIONS], np.int64)


class StreamArrays(NamedTuple):
    """What all epochs of a stream share, as `kernels.streaming` takes it: the file and what is made of it."""

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
    """What one epoch's decoder reads and writes: arrays that FFCV hands to compiled code at every batch.

    Because seed, epoch, view and thread count travel here, none of them needs a compilation, and two epochs that
    overlap cannot disturb each other.

    Args:
        arrays: what all epochs share.
        numbers: int64 [2]: epoch, threads.
        decodes: uint32 [N], counts decoded samples.
    """

    def __init__(self, arrays: StreamArrays, numbers: NDArray[np.int64], decodes: NDArray[np.uint32]) -> None:
        self._arrays = (*arrays, numbers, decodes)
        self._batch = (np.zeros(0, np.uint8), np.zeros(0, np.uint8))

    @property
    def total(self) -> int:
        """Samples of the file."""
        return len(self._arrays[-1])

    def next_batch(self, states: NDArray[np.uint8], out: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        """The state for a batch that is written to `out`."""
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
    """What an epoch's thread asks of its stream."""

    def room(self, count: int) -> Buffer:
        """Memory for a batch of `count` samples."""

    def finish(self, samples: NDArray[np.int64], states: NDArray[np.uint8], buffer: Buffer) -> tuple[torch.Tensor, ...]:
        """The batch that the decoder has written to `buffer`; `states` [B] says which samples it made.

        Raises:
            LoaderError: a sample cannot be decoded, or the file was changed.
        """


class FileStorage(MemoryManager):  # type: ignore[misc]
    """Gives each epoch the storage that was set for it; knows no allocation table."""

    def __init__(self, reader: Any) -> None:  # FFCV's own constructor is what must not run
        self.reader = reader
        self.next_epoch: EpochStorage | None = None

    def schedule_epoch(self, batches: Sequence[Sequence[int]]) -> EpochStorage:
        assert self.next_epoch is not None, "EpochThread sets it"
        return self.next_epoch

    def compile_reader(self, *unused: object) -> None:
        return None  # our decoder reads the file by its own table

    @property
    def state_type(self) -> None:
        return None


class FileOrder(TraversalOrder):  # type: ignore[misc]
    """Samples in file order; each epoch's real order is given to its `EpochThread`."""

    def __init__(self) -> None:
        self.num_samples = 0

    def __call__(self, loader: Any) -> "FileOrder":  # FFCV takes an instance and calls it
        self.num_samples = len(loader.indices)
        return self

    def sample_order(self, epoch: int) -> NDArray[np.int64]:
        return np.arange(self.num_samples)


class ViewDecoder(SimpleRGBImageDecoder):  # type: ignore[misc]
    """Decode, crop, resize, mirror. A subclass of the field's decoder, else FFCV would put its own one in front."""

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        # No memory from FFCV: it would be reused under the consumer's hands, and allocated anew for every epoch.
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
                batch_size=1,
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
        # FFCV compiles what a decoder gives it, anew for each loader, which cannot be kept on disk (3 to 15 s). Ours is
        # compiled already.
        with replaced(Compiler, "is_enabled", False):
            super().generate_code()


# FFCV's threads are daemons: one that returns from torch's C++ while Python ends aborts the process.
_RUNNING: "weakref.WeakSet[EpochThread]" = weakref.WeakSet()


@atexit.register
def _stop_epochs() -> None:
    """Let every epoch that nobody finished end before Python does."""
    for thread in list(_RUNNING):
        thread.close()


class EpochThread(EpochIterator):  # type: ignore[misc]
    """FFCV's epoch iterator, whose thread reports its end however it ends.

    Args:
        pipeline: the compiled loader.
        samples: int64 [n], in order.
        batch_size: samples in a batch.
        threads: numba threads of the decoder.
        storage: what the decoder reads.
        maker: room for each batch, and what is to be done once the decoder has filled it.
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
        with pipeline.lock:  # the next lines talk to FFCV's constructor through attributes of the shared loader
            pipeline.batch_size = batch_size
            pipeline.memory_manager.next_epoch = storage
            super().__init__(pipeline, samples)
        _RUNNING.add(self)

    def run(self) -> None:
        """Make batches until told to stop; the last thing put is None, after success, failure or a stop."""
        try:
            numba.set_num_threads(self.threads)
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
        self.storage_state = self.storage.next_batch(states, states)  # lets go of the buffer
        return self.maker.finish(samples, states, buffer)

    def _put(self, item: tuple[torch.Tensor, ...] | None) -> bool:
        """Hand over `item`; False if the consumer is gone."""
        while not self.terminate_event.is_set():
            try:
                self.output_queue.put(item, timeout=_POLL_SECONDS)
                return True
            except Full:
                continue
        return False

    def take(self, path: Path) -> tuple[torch.Tensor, ...]:
        """The next batch, owned by the caller.

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
        """Stop the thread and wait for it; at most the batch in work is finished."""
        super().close()
        if not self.is_alive() or threading.current_thread() is self:
            return
        try:
            while True:  # room in the queue wakes a thread that waits to hand over a batch
                self.output_queue.get_nowait()
        except Empty:
            pass
        self.join()
