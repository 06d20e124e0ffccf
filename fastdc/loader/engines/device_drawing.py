"""Choice between the two ways to draw views on a device: the Triton kernel, or matrix products."""

import importlib.util
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch

from fastdc.common.log import log_message
from fastdc.kernels.views.view_batches import PLACE_NUMBERS, place_views
from fastdc.loader.engines.device_resize import resize_views
from fastdc.loader.stream import normal_levels
from fastdc.loader.view_settings import TrainView, view_numbers

_SIDES, _SIZE, _COUNT = (40, 56), 24, 8
"""Images and views of the check."""


class Drawing(NamedTuple):
    """Way to draw views on a device.

    Attributes:
        way: the Triton kernel, or matrix products.
        reason: why it is not the kernel; empty if it is.
    """

    way: Literal["kernel", "products"]
    reason: str = ""


@lru_cache
def choose_drawing(device: torch.device) -> Drawing:
    """Choose the kernel on CUDA if it draws the same pixels as matrix products, which is checked once per process."""
    if device.type != "cuda":
        return Drawing("products", "the kernel needs CUDA")
    if importlib.util.find_spec("triton") is None:
        return Drawing("products", "triton is not installed")
    reason = kernel_fault(device)
    if reason:
        log_message(f"device engine: views are drawn by matrix products, because {reason}")
        return Drawing("products", reason)
    return Drawing("kernel")


def kernel_fault(device: torch.device) -> str:
    """Draw a few random views both ways and return what is wrong with the kernel's; empty if they are equal."""
    random, places = np.random.default_rng(0), np.zeros((_COUNT, PLACE_NUMBERS), np.int64)
    levels = random.integers(0, 256, (_COUNT, *_SIDES, 3), dtype=np.uint8)
    heights, widths = (np.full(_COUNT, side) for side in _SIDES)
    place_views(view_numbers(TrainView(_SIZE)), 0, 0, np.arange(_COUNT), heights, widths, _SIZE, places)
    images, cuts = torch.from_numpy(levels).to(device), torch.from_numpy(places)
    try:
        found = draw_views(images, torch.arange(_COUNT, device=device), cuts.int().to(device), _SIZE, torch.uint8)
    except Exception as error:  # whatever Triton, its compiler or the driver raise
        return f"Triton's kernel failed ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    different = int((found != resize_views(images, cuts, _SIZE)).sum())
    return f"{different} of {found.numel()} levels of Triton's kernel were different" if different else ""


def draw_views(
    images: torch.Tensor, samples: torch.Tensor, places: torch.Tensor, size: int, dtype: torch.dtype
) -> torch.Tensor:
    """Draw views with the kernel.

    Args:
        images: uint8 [N, H, W, 3]. samples: int64 [B], numbers of images.
        places: int32 [B, PLACE_NUMBERS] of training views, whose boxes lie inside the images.
        size: side S of the views. dtype: uint8 for levels, float32 for normalised values.

    Returns:
        [B, S, S, 3] on the images' device.
    """
    from fastdc.loader.engines.device_kernel import draw_on_device, most_taps

    out = torch.empty((len(samples), size, size, 3), dtype=dtype, device=images.device)
    draw_on_device(images, samples, places, _levels(images.device), out, most_taps(max(images.shape[1:3]) / size))
    return out


@lru_cache
def _levels(device: torch.device) -> torch.Tensor:
    """Return shift and scale of 8-bit levels, float32 [2, 3] on the device."""
    return torch.from_numpy(normal_levels()).to(device)
