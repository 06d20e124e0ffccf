"""The resident engine: every image is decoded once per process and kept in memory; epochs only crop and resize."""

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.beton import BetonFile
from fastdc.errors import LoaderError
from fastdc.kernels.batches import center_view, resident_share
from fastdc.loader.batches import Batch, EpochLoader, SampleOrder, decode_sample
from fastdc.loader.memory import CACHE, FileIdentity
from fastdc.loader.views import EvalView, TrainView, View, view_numbers

# Waking a thread costs about 0.1 ms, as much as a batch of this many bytes takes to make.
_BYTES_WORTH_A_THREAD = 200_000


class DecodedImages(NamedTuple):
    """All images of a beton: image i is heights[i] x widths[i] x 3 bytes of `pixels`, from offsets[i] on."""

    pixels: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]


def resident_key(identity: FileIdentity, view: View) -> tuple[FileIdentity, EvalView | None]:
    """What the cache calls the images that `view` needs: decoded images serve every training view."""
    return identity, view if isinstance(view, EvalView) else None


def resident_bytes(file: BetonFile, view: View) -> int:
    """Bytes of memory that the resident engine keeps for `view`: decoded images, or finished validation views."""
    if isinstance(view, EvalView):
        return file.num_samples * view.size * view.size * 3
    return int((file.heights * file.widths).sum()) * 3


def open_resident(
    file: BetonFile, identity: FileIdentity, view: View, order: SampleOrder, batch_size: int, workers: int
) -> EpochLoader:
    """A resident loader; decodes the file with `workers` threads unless this process has done so already.

    Raises:
        LoaderError: an image cannot be decoded.
    """
    key, size = resident_key(identity, view), resident_bytes(file, view)
    if isinstance(view, EvalView):
        views = CACHE.get(key, size, lambda: _make_views(file, view, workers))
        return ResidentEvalLoader(file, view, order, batch_size, workers, views)
    images = CACHE.get(key, size, lambda: _decode_all(file, workers))
    return ResidentTrainLoader(file, view, order, batch_size, workers, images)


def _decode_all(file: BetonFile, workers: int) -> DecodedImages:
    """Every image of `file`, decoded into one buffer."""
    sizes = file.heights * file.widths * 3
    offsets = np.cumsum(sizes) - sizes
    pixels = np.empty(int(sizes.sum()), np.uint8)

    def keep(sample: int, image: NDArray[np.uint8]) -> None:
        pixels[offsets[sample] : offsets[sample] + sizes[sample]] = image.reshape(-1)

    _for_each_image(file, workers, keep)
    return DecodedImages(pixels, offsets, file.heights, file.widths)


def _make_views(file: BetonFile, view: EvalView, workers: int) -> torch.Tensor:
    """The validation view of every image, uint8 [N, S, S, 3]; the decoded images are not kept."""
    views = torch.empty((file.num_samples, view.size, view.size, 3), dtype=torch.uint8)
    array = views.numpy()
    _for_each_image(file, workers, lambda sample, image: center_view(image, view.resize, array[sample]))
    return views


def _for_each_image(file: BetonFile, workers: int, use: Callable[[int, NDArray[np.uint8]], None]) -> None:
    """Call `use(sample, image)` for every sample on `workers` threads; decoding and `use` both leave the GIL.

    Raises:
        LoaderError: an image cannot be decoded.
    """
    stop = threading.Event()

    def share(first: int) -> None:
        try:
            for sample in range(first, file.num_samples, workers):
                if stop.is_set():
                    return
                use(sample, decode_sample(file, sample))
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(workers, thread_name_prefix="fastdc-decode") as pool:
        try:
            for done in [pool.submit(share, first) for first in range(workers)]:
                done.result()
        finally:
            stop.set()  # on Ctrl-C the pool would else decode to the end


class ResidentLoader(EpochLoader):
    """Batches from images in memory, made when asked for."""

    engine = "resident"

    def _iterate(self, epoch: int, samples: NDArray[np.int64]) -> Iterator[Batch]:
        for start in range(0, len(samples), self.batch_size):
            if self.closed:
                raise LoaderError(f"{self.path}: this loader was closed; open it again")
            chosen = samples[start : start + self.batch_size]
            yield self._batch(self._views(chosen, epoch), chosen)

    @abstractmethod
    def _views(self, samples: NDArray[np.int64], epoch: int) -> torch.Tensor:
        """The views of `samples` in `epoch` as a new tensor, uint8 [B, S, S, 3]."""


class ResidentTrainLoader(ResidentLoader):
    """Random views of decoded images."""

    def __init__(
        self,
        file: BetonFile,
        view: TrainView,
        order: SampleOrder,
        batch_size: int,
        workers: int,
        images: DecodedImages,
    ) -> None:
        super().__init__(file.path, view, order, file.labels, batch_size, workers)
        self._images = images
        self._numbers = view_numbers(view)
        self._pool = ThreadPoolExecutor(max(workers - 1, 1), thread_name_prefix="fastdc-resident")

    def _views(self, samples: NDArray[np.int64], epoch: int) -> torch.Tensor:
        # This thread makes one share, the pool the others; a tiny batch is one share.
        views = torch.empty((len(samples), self.view.size, self.view.size, 3), dtype=torch.uint8)
        array = views.numpy()
        shares = max(min(self.workers, len(samples), array.size // _BYTES_WORTH_A_THREAD), 1)

        def make(share: int) -> None:
            resident_share(*self._images, samples, self._numbers, self.augment_seed, epoch, share, shares, array)

        others = [self._pool.submit(make, share) for share in range(1, shares)]
        make(0)
        for other in others:
            other.result()
        return views

    def close(self) -> None:
        super().close()
        self._pool.shutdown()


class ResidentEvalLoader(ResidentLoader):
    """Batches picked from finished validation views."""

    def __init__(
        self, file: BetonFile, view: EvalView, order: SampleOrder, batch_size: int, workers: int, views: torch.Tensor
    ) -> None:
        super().__init__(file.path, view, order, file.labels, batch_size, workers)
        self._finished = views

    def _views(self, samples: NDArray[np.int64], epoch: int) -> torch.Tensor:
        return self._finished[torch.from_numpy(samples)]
