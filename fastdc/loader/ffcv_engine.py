"""The ffcv engine: images are read and decoded in every epoch, for betons that do not fit in memory."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.beton import BetonFile
from fastdc.errors import LoaderError
from fastdc.kernels.batches import make_view
from fastdc.kernels.streaming import FAILED
from fastdc.loader.batches import Batch, EpochLoader, SampleOrder, decode_sample
from fastdc.loader.ffcv_pipeline import EpochStorage, EpochThread, ViewDecoder, ViewPipeline, turbojpeg_addresses
from fastdc.loader.memory import FileIdentity, file_identity
from fastdc.loader.views import View, view_numbers

_NUMBA: Any = numba.config  # its attributes are made at run time


def open_ffcv(
    path: Path, identity: FileIdentity, view: View, order: SampleOrder, batch_size: int, workers: int
) -> EpochLoader:
    """A loader that streams the beton through FFCV.

    Raises:
        LoaderError: the file was replaced since `identity` was taken.
    """
    pipeline = ViewPipeline(str(path), [ViewDecoder()])
    return FfcvLoader(BetonFile(path), identity, view, order, batch_size, workers, pipeline)


class FfcvLoader(EpochLoader):
    """Batches from FFCV's thread; samples that its decoder refuses go to the careful one of `BetonFile`."""

    engine = "ffcv"

    def __init__(
        self,
        file: BetonFile,
        identity: FileIdentity,
        view: View,
        order: SampleOrder,
        batch_size: int,
        workers: int,
        pipeline: ViewPipeline,
    ) -> None:
        threads = min(workers, _NUMBA.NUMBA_NUM_THREADS)
        super().__init__(file.path, view, order, file.labels, batch_size, threads)
        self._file, self._pipeline = file, pipeline
        self._view = view_numbers(view)
        self._library = turbojpeg_addresses()
        data = np.memmap(file.path, np.uint8, mode="r").view(np.ndarray)
        if file_identity(file.path) != identity:
            raise LoaderError(f"{file.path}: was replaced while it was opened; try again")
        self._arrays = (data, file.offsets, file.sizes, file.modes, file.heights, file.widths)
        self._threads: weakref.WeakSet[EpochThread] = weakref.WeakSet()

    def _start(self, samples: NDArray[np.int64], epoch: int) -> EpochThread:
        numbers = np.array([self.augment_seed, epoch, self.view.size, self.workers], np.int64)
        storage = EpochStorage(self._arrays, self._view, numbers, self._library)
        thread = EpochThread(self._pipeline, samples, self.batch_size, self.workers, storage)
        self._threads.add(thread)
        return thread

    def _iterate(self, epoch: int, samples: NDArray[np.int64]) -> Iterator[Batch]:
        if self.closed:
            raise LoaderError(f"{self.path}: this loader was closed; open it again")
        if len(samples) == 0:
            return
        thread = self._start(samples, epoch)
        try:
            for start in range(0, len(samples), self.batch_size):
                chosen = samples[start : start + self.batch_size]
                images = thread.take(self.path)
                self._repair(images, chosen, thread.storage.states, epoch)
                yield self._batch(torch.from_numpy(images), chosen)
        finally:
            thread.close()

    def _repair(self, images: NDArray[Any], samples: NDArray[np.int64], states: NDArray[np.uint8], epoch: int) -> None:
        """Make the views that the fast decoder refused, or say which sample is damaged.

        Raises:
            LoaderError: a sample cannot be decoded at all.
        """
        for position in np.flatnonzero(states[samples] == FAILED):
            sample = int(samples[position])
            make_view(decode_sample(self._file, sample), self._view, self.augment_seed, epoch, sample, images[position])

    def close(self) -> None:
        super().close()
        for thread in list(self._threads):
            thread.close()
        self._file.close()
