"""The device engine: decoded images are kept in the memory of the training device, and views are made there.

Crop boxes and flips are drawn on the CPU by the same kernels as in the other engines (a microsecond each), for many
batches at once. They and the order of the samples are all that is sent to the device.
"""

import threading
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.errors import LoaderError
from fastdc.common.gpu_share import gpu_budget
from fastdc.common.transfer import send
from fastdc.kernels.views.view_batches import PLACE_NUMBERS, place_views
from fastdc.loader.batches import ViewStream, VisitDrawer
from fastdc.loader.buffers import BufferPool
from fastdc.loader.descriptor import StoredFile
from fastdc.loader.engines.decoded import finisher, for_each_image, keeper, resident_bytes, resident_key
from fastdc.loader.engines.device_drawing import choose_drawing, draw_views
from fastdc.loader.engines.device_resize import resize_views
from fastdc.loader.image_cache import SharedCache, available_memory
from fastdc.loader.stream import ViewPlan, normal_levels
from fastdc.loader.view_settings import EvalView

_CHANNELS = 3
_CHUNK_BYTES = 64_000_000  # decoded bytes per copy to the device
_CHUNK_VISITS = 1 << 14  # visits whose places are drawn (16 ms) and uploaded together

_CACHES: dict[torch.device, SharedCache] = {}
_CACHES_LOCK = threading.Lock()


def device_cache(device: torch.device) -> SharedCache:
    """Return the cache of images that this process keeps on `device`, shared by its loaders."""
    with _CACHES_LOCK:
        if device not in _CACHES:
            _CACHES[device] = SharedCache(lambda: device_memory(device))
        return _CACHES[device]


def forget_images() -> None:
    """Drop the images that this process keeps on devices and that no open loader uses."""
    with _CACHES_LOCK:
        for cache in _CACHES.values():
            cache.clear()


def device_memory(device: torch.device) -> int:
    """Return the bytes that this process can still use on `device`, including memory that torch holds in reserve."""
    if device.type != "cuda":
        return available_memory()
    free, total = torch.cuda.mem_get_info(device)
    most = min(free + torch.cuda.memory_reserved(device), gpu_budget(total))
    return most - torch.cuda.memory_allocated(device)


def device_suits(file: StoredFile, plan: ViewPlan, share: int) -> bool:
    """Return whether the images can be kept on a GPU and take at most 1/`share` of its memory.

    What is free at the moment does not count, nor, for training views, how many processes share the GPU: pixels of this
    engine may differ by one level, so the choice must be the same whatever else runs. Validation views are the same
    bytes in all engines, so for them the memory that this process may use decides.
    """
    view = plan.requests[0].view
    total = torch.cuda.get_device_properties(plan.delivery.device).total_memory
    if isinstance(view, EvalView):
        return resident_bytes(file, view) <= gpu_budget(total) // share
    return _one_size(file) and resident_bytes(file, view) <= total // share


def _one_size(file: StoredFile) -> bool:
    return bool((file.heights == file.heights[0]).all() and (file.widths == file.widths[0]).all())


def open_device(file: StoredFile, plan: ViewPlan, workers: int) -> "DeviceStream":
    """Open a stream that keeps the images on the plan's device; decode unless this process has already done so.

    Raises:
        LoaderError: an image cannot be decoded, sizes differ, or the device has too little memory, which its cause
            states too.
    """
    device, view = plan.delivery.device, plan.requests[0].view
    cache = device_cache(device)
    key, size = resident_key(file.identity, view), resident_bytes(file, view)
    if key not in cache:
        _check_fits(file, size, device, isinstance(view, EvalView))
    images = cache.get(key, size, lambda: _upload(file, view if isinstance(view, EvalView) else None, device, workers))
    return DeviceStream(file, plan, images)


def _check_fits(file: StoredFile, size: int, device: torch.device, validation: bool) -> None:
    if not (validation or _one_size(file)):
        other = int(np.flatnonzero((file.heights != file.heights[0]) | (file.widths != file.widths[0]))[0])
        sides = [f"sample {sample} is {file.heights[sample]} x {file.widths[sample]} pixels" for sample in (0, other)]
        raise LoaderError(
            f"{file.path}: {sides[0]}, {sides[1]}; the device engine needs images of one size; use the resident "
            "engine, or write the images in one size"
        )
    free = device_memory(device)
    if size > free:
        raise LoaderError(
            f"{file.path}: its images take {size / 1e6:,.1f} MB on {device}, where {free / 1e6:,.1f} MB are free; use "
            "the resident or the ffcv engine, let fewer processes share the device, or end what else runs there"
        ) from MemoryError(device)


def _upload(file: StoredFile, view: EvalView | None, device: torch.device, workers: int) -> torch.Tensor:
    """Copy every image, or its validation view, to the device as uint8 [N, H, W, 3].

    It works in chunks, so that only one chunk is also in main memory.
    """
    height, width = (view.size, view.size) if view is not None else (int(file.heights[0]), int(file.widths[0]))
    total, length = file.num_samples, height * width * _CHANNELS
    try:
        images = torch.empty((total, height, width, _CHANNELS), dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError as error:
        needed = f"{device} has no {total * length / 1e6:,.0f} MB for its images"
        raise LoaderError(f"{file.path}: {needed}; use the resident or the ffcv engine") from error
    chunk = max(_CHUNK_BYTES // length, 1)
    rows = np.empty((min(chunk, total), length), np.uint8)
    for first in range(0, total, chunk):
        end = min(first + chunk, total)
        use = keeper(rows, first) if view is None else finisher(view, rows, first)
        for_each_image(file, workers, first, end, use)
        # A copy from ordinary memory has ended when copy_ returns, so `rows` can be reused.
        images[first:end].copy_(torch.from_numpy(rows[: end - first]).view(-1, height, width, _CHANNELS))
    return images


class DeviceStream(ViewStream):
    """Batches made on the device from images in its memory.

    Args:
        images: uint8 [N, H, W, 3] on the device: decoded images, or finished validation views.
    """

    engine = "device"

    def __init__(self, file: StoredFile, plan: ViewPlan, images: torch.Tensor) -> None:
        device = plan.delivery.device
        self.images, self.closed = images, False
        self.labels = torch.from_numpy(file.labels).to(device)
        self.pool = BufferPool(0)  # unused: torch's own cache manages device memory
        self.decodes = np.ones(file.num_samples, np.uint32)
        self._path, self._plan, self._drawing = file.path, plan, choose_drawing(device).way
        self._heights, self._widths = file.heights, file.widths
        levels = torch.from_numpy(normal_levels()).to(device)
        self._shift, self._scale = levels.view(2, 1, 3, 1, 1)

    def batches(self, epoch: int, samples: NDArray[np.int64], batch_size: int) -> Iterator[tuple[torch.Tensor, ...]]:
        # Places are uploaded for many batches at once, so that hardly any batch waits for the host.
        chunk = max(_CHUNK_VISITS // batch_size, 1) * batch_size
        for start in range(0, len(samples), chunk):
            yield from self._chunk(epoch, samples[start : start + chunk], batch_size)

    def _chunk(self, epoch: int, samples: NDArray[np.int64], batch_size: int) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield the batches of some visits."""
        chosen = send(torch.from_numpy(samples % len(self.images)), self.images.device)
        placed = [self._placed(number, epoch, samples) for number in range(len(self._plan.requests))]
        for start in range(0, len(samples), batch_size):
            if self.closed:
                raise LoaderError(f"{self._path}: this loader was closed; open it again")
            part = slice(start, start + batch_size)
            yield tuple(
                self.draw(number, chosen[part], None if places is None else places[part])
                for number, places in enumerate(placed)
            )

    def _placed(self, number: int, epoch: int, samples: NDArray[np.int64]) -> torch.Tensor | None:
        """Return places of a request's views, where they are drawn from; None for validation views."""
        if isinstance(self._plan.requests[number].view, EvalView):
            return None
        places = self.places(number, epoch, samples)
        return places if self._drawing == "products" else send(places, self.images.device)

    @property
    def drawers(self) -> tuple[VisitDrawer, ...]:
        # Matrix products read places on the host.
        alone = self._drawing == "kernel" or self.images.device.type == "cpu"
        random = self._plan.random == len(self._plan.requests)
        return tuple(_RequestDrawer(self, number) for number in self._plan.places) if alone and random else ()

    def places(self, number: int, epoch: int, samples: NDArray[np.int64]) -> torch.Tensor:
        """Return crop boxes and flips of visits for request `number`, int32 [n, PLACE_NUMBERS] on the CPU."""
        plan, places = self._plan, np.empty((len(samples), PLACE_NUMBERS), np.int64)
        seed, side = int(plan.seeds[number]), int(plan.sides[number])
        place_views(plan.views[number], seed, epoch, samples, self._heights, self._widths, side, places)
        return torch.from_numpy(places).int()

    def draw(self, number: int, samples: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
        """Return a batch of views of request `number`.

        Args:
            samples: int64 [B] on the device.
            places: see `places`; on the device for the kernel. None for validation views.
        """
        size = self._plan.requests[number].view.size
        if places is None or self._drawing == "products":
            return self._made(samples, places, size)
        plain = self._plan.delivery.output == "uint8"
        views = draw_views(self.images, samples, places, size, torch.uint8 if plain else torch.float32)
        return views if plain else views.permute(0, 3, 1, 2)  # in channels_last memory

    @torch.no_grad()
    def _made(self, samples: torch.Tensor, places: torch.Tensor | None, size: int) -> torch.Tensor:
        """Return a batch of validation views, or of views made by matrix products."""
        chosen = self.images[samples]
        if places is not None:
            chosen = resize_views(chosen, places, size)
        if self._plan.delivery.output == "uint8":
            return chosen
        # The permuted tensor keeps its memory order, which is channels_last.
        shifted: torch.Tensor = chosen.permute(0, 3, 1, 2).float() - self._shift
        return shifted.mul_(self._scale)

    def close(self) -> None:
        self.closed = True
        self.images = self.images.new_empty(0)  # drop the reference, so that the cache can free them


class _RequestDrawer:
    """Maker of a request's views, see `VisitDrawer`."""

    def __init__(self, stream: DeviceStream, number: int) -> None:
        self.labels, self._stream, self._number = stream.labels, stream, number

    def visits(self, epoch: int, samples: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        places = self._stream.places(self._number, epoch, samples)
        return torch.from_numpy(samples % len(self.labels)), places

    def draw(self, samples: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return self._stream.draw(self._number, samples, places)
