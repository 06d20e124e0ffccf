"""Views of a stream in the form the kernels take, and the tensors of a batch of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.keys import derive_seed
from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.kernels.views.view_batches import VIEW_NUMBERS, make_views
from fastdc.loader.buffers import Buffer, BufferPool
from fastdc.loader.view_settings import TrainView, View, ViewRequest, view_numbers

Output = Literal["uint8", "float32"]
_CHANNELS = 3
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Delivery:
    """Form of a batch's images.

    Attributes:
        output: "uint8" [B, S, S, 3], or "float32" [B, 3, S, S], channels_last and normalised.
        device: the consumer's device; batches made on the CPU are pinned if it is CUDA.
    """

    output: Output = "uint8"
    device: torch.device = _CPU

    @property
    def pinned(self) -> bool:
        """Return whether batches lie in page-locked memory."""
        return self.device.type == "cuda"

    @property
    def item_bytes(self) -> int:
        """Return the bytes of one channel of one pixel."""
        return 4 if self.output == "float32" else 1


class ViewPlan:
    """Distinct views of a stream; equal requests are made once.

    Attributes:
        delivery: the form of the images.
        requests: the distinct requests, training views first; validation views do not depend on the seed.
        random: number of training views among them.
        places: for each original request, its number in `requests`.
        views: float64 [K, VIEW_NUMBERS]; seeds, sides: int64 [K]: see `kernels.views.view_batches`.
        levels: float32 [2, 3 * largest side], shift and scale of 8-bit levels, or [2, 0] for uint8 output.
    """

    def __init__(self, requests: Sequence[ViewRequest], delivery: Delivery) -> None:
        # Validation views are equal for every seed: drop it, so that they are made once.
        plain = [request if _is_random(request.view) else ViewRequest(request.view) for request in requests]
        self.delivery = delivery
        # False sorts first, so training views come first; the sort is stable.
        self.requests = tuple(sorted(dict.fromkeys(plain), key=lambda request: not _is_random(request.view)))
        self.random = sum(_is_random(request.view) for request in self.requests)
        self.places = tuple(self.requests.index(request) for request in plain)
        self.views = np.array([view_numbers(request.view) for request in self.requests]).reshape(-1, VIEW_NUMBERS)
        self.seeds = np.array([derive_seed(int(request.seed), "augment") for request in self.requests], np.int64)
        self.sides = np.array([request.view.size for request in self.requests], np.int64)
        largest = int(self.sides.max()) if delivery.output == "float32" else 0
        self.levels = np.ascontiguousarray(np.tile(normal_levels().astype(np.float32), largest))

    @property
    def one_kind(self) -> bool:
        """Return whether all views are made from the same images: training views only, or one validation view."""
        return self.random == len(self.requests) or len(self.requests) == 1

    def view_bytes(self, number: int) -> int:
        """Return the bytes of one view of request `number`."""
        return int(self.sides[number]) ** 2 * _CHANNELS * self.delivery.item_bytes

    def batch_bytes(self, count: int) -> int:
        """Return the bytes of the views of `count` samples."""
        return sum(self.view_bytes(number) for number in range(len(self.requests))) * count

    def buffer(self, pool: BufferPool, count: int) -> Buffer:
        """Take a buffer for a batch of `count` samples from `pool`."""
        return pool.take(self.batch_bytes(count))

    def make(
        self, image: NDArray[np.uint8], epoch: int, visit: int, position: int, count: int, out: NDArray[np.uint8]
    ) -> None:
        """Write all views of an image at `position` of a batch of `count` samples; see `make_views`."""
        make_views(image, self.views, self.seeds, self.sides, self.levels, epoch, visit, position, count, out)

    def tensors(self, buffer: Buffer, count: int) -> tuple[torch.Tensor, ...]:
        """Return one tensor per distinct request, all of them views of `buffer`, which they keep alive."""
        found, start = [], 0
        for number, side in enumerate(self.sides.tolist()):
            end = start + count * self.view_bytes(number)
            found.append(buffer.tensor(start, end, (count, side, side, _CHANNELS), self.delivery.output))
            start = end
        return tuple(found)


def _is_random(view: View) -> bool:
    return isinstance(view, TrainView)


def normal_levels() -> NDArray[np.float32]:
    """Return shift and scale of 8-bit levels, float32 [2, 3]: 255 * mean and 1 / (255 * std), rounded at each step."""
    shift = np.array(IMAGENET_MEAN, np.float32) * np.float32(255)
    scale = np.float32(1) / (np.array(IMAGENET_STD, np.float32) * np.float32(255))
    return np.stack([shift, scale])
