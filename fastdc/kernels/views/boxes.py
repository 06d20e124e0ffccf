"""Crop boxes: torchvision's RandomResizedCrop law, the same inside one tile of a mosaic, and Resize + CenterCrop.

A box is (top, left, height, width) in pixels. Random boxes depend only on a stream key (see `rng`).
Source of the law: torchvision.transforms.RandomResizedCrop.get_params and CenterCrop, torchvision 0.29.
"""

import math

import numpy as np

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.core.rng import (
    ALIGN,
    CROP_ATTEMPTS,
    FLIP,
    TILE,
    WHOLE,
    WINDOW_COLUMN,
    WINDOW_ROW,
    draw_integer,
    draw_unit,
)

Box = tuple[int, int, int, int]


@kernel
def _round_even(value: float) -> int:
    """Round half to even, like Python's `round`."""
    return int(np.rint(value))


@kernel
def _fallback_box(height: int, width: int, ratio_low: float, ratio_high: float) -> Box:
    """Return the largest central box whose aspect ratio is allowed, for images where every attempt failed."""
    box_height, box_width = height, width
    aspect = width / height
    if aspect < ratio_low:
        box_height = max(_round_even(width / ratio_low), 1)  # torchvision fails where this rounds to 0
    elif aspect > ratio_high:
        box_width = max(_round_even(height * ratio_high), 1)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@kernel
def random_resized_crop(
    key: np.uint64,
    height: int,
    width: int,
    scale_low: float,
    scale_high: float,
    ratio_low: float,
    ratio_high: float,
) -> Box:
    """Draw the box of RandomResizedCrop: area uniform in `scale` x image area, aspect ratio log-uniform in `ratio`.

    After ten failed attempts it is the central fallback. Attempt t always uses draws 4t..4t+3, so a rejected attempt
    shifts no later draw.
    """
    area = np.float64(height * width)
    log_low, log_high = math.log(ratio_low), math.log(ratio_high)
    for attempt in range(CROP_ATTEMPTS):
        target = area * (scale_low + (scale_high - scale_low) * draw_unit(key, 4 * attempt))
        aspect = math.exp(log_low + (log_high - log_low) * draw_unit(key, 4 * attempt + 1))
        box_width = _round_even(math.sqrt(target * aspect))
        box_height = _round_even(math.sqrt(target / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = draw_integer(key, 4 * attempt + 2, height - box_height + 1)
            left = draw_integer(key, 4 * attempt + 3, width - box_width + 1)
            return top, left, box_height, box_width
    return _fallback_box(height, width, ratio_low, ratio_high)


@kernel
def tile_box(height: int, width: int, grid: int, position: int) -> Box:
    """Return tile `position` (row by row) of an image cut into grid x grid tiles with edges at round(k * side / grid).

    Every tile has at least one pixel; tiles overlap only if a side is shorter than `grid` pixels.
    """
    row, column = position // grid, position % grid
    top = min(_round_even(row * height / grid), height - 1)
    left = min(_round_even(column * width / grid), width - 1)
    bottom = max(_round_even((row + 1) * height / grid), top + 1)
    right = max(_round_even((column + 1) * width / grid), left + 1)
    return top, left, bottom - top, right - left


@kernel
def random_window(key: np.uint64, height: int, width: int, grid: int, whole: float, align: float) -> Box:
    """Choose the part of a mosaic that one visit may crop from: a tile, a tile-sized window, or the whole mosaic.

    With grid = 1 it is the whole image. Tiles are PCA's constrained augmentation (arXiv 2502.06434, section 4). Mixing
    them with whole mosaics is CIM's (arXiv 2607.00916); mixing them with free windows is GRID's.

    Args:
        key: start of the visit's stream of draws; see `rng.stream_key`.
        height, width: sides of the mosaic, pixels.
        grid: tiles per side.
        whole: share of visits that see the whole mosaic, 0..1.
        align: share of the other visits whose window is one of the tiles, 0..1; the rest take it anywhere.
    """
    # Every draw has its own number, so skipping one (whole = 0, align = 1) leaves the others as they are.
    if grid <= 1 or (whole > 0.0 and draw_unit(key, WHOLE) < whole):
        return 0, 0, height, width
    if align < 1.0 and draw_unit(key, ALIGN) >= align:
        _, _, window_height, window_width = tile_box(height, width, grid, 0)
        top = draw_integer(key, WINDOW_ROW, height - window_height + 1)
        left = draw_integer(key, WINDOW_COLUMN, width - window_width + 1)
        return top, left, window_height, window_width
    return tile_box(height, width, grid, draw_integer(key, TILE, grid * grid))


@kernel
def random_crop_in_window(
    key: np.uint64, window: Box, scale_low: float, scale_high: float, ratio_low: float, ratio_high: float
) -> Box:
    """Draw the box of RandomResizedCrop inside `window`; `scale` is relative to the window's area."""
    top, left, box_height, box_width = random_resized_crop(
        key, window[2], window[3], scale_low, scale_high, ratio_low, ratio_high
    )
    return window[0] + top, window[1] + left, box_height, box_width


@kernel
def random_flip(key: np.uint64) -> bool:
    """Draw whether this view is mirrored left to right, with probability 1/2."""
    return draw_unit(key, FLIP) < 0.5


@kernel
def resized_sides(height: int, width: int, side: int) -> tuple[int, int]:
    """Return (height, width) after torchvision's Resize(side): shorter side to `side`, the longer one truncated."""
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


@kernel
def center_offset(length: int, size: int) -> int:
    """Return the first pixel of torchvision's CenterCrop(size) along a side of `length` >= size pixels."""
    return _round_even((length - size) / 2)
