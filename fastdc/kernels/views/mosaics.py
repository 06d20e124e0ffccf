"""Mosaics of grid x grid tiles: whole images, or crops of them, each shrunk to its tile.

Crops are the patches of RDED and of the methods that build on it. Three things identify a crop: the law it was drawn
by, a seed and its sample number. The counter-based generator derives its box from them and the image's sides. A crop
scored in one batch can thus be cut again later from the same image, when it is stored. A million candidates are kept as
numbers, none as pixels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.views.boxes import Box, tile_box
from fastdc.kernels.views.resize import resize_crop
from fastdc.kernels.views.view_batches import HEIGHT, LEFT, MIRROR, PLACE_NUMBERS, TOP, WIDTH, place_view


@kernel
def paste(
    source: NDArray[np.uint8], box: Box, mirror: bool, canvas: NDArray[np.uint8], grid: int, position: int
) -> None:
    """Cut `box` out of `source` and resize it, antialiased, into tile `position` of `canvas`.

    Args:
        source: uint8 [H, W, 3], C-contiguous.
        box: (top, left, height, width); its aspect ratio is not kept.
        mirror: flip the tile left to right.
        canvas: uint8 [S, S, 3], the tile is written; tiles are those of `boxes.tile_box`.
        grid: tiles per side, 1..S.
        position: 0..grid**2 - 1, row by row.
    """
    top, left, height, width = tile_box(canvas.shape[0], canvas.shape[1], grid, position)
    tile = np.empty((height, width, 3), np.uint8)
    resize_crop(source, box, mirror, tile)
    canvas[top : top + height, left : left + width] = tile


@kernel
def paste_crop(
    source: NDArray[np.uint8],
    law: NDArray[np.float64],
    seed: int,
    sample: int,
    canvas: NDArray[np.uint8],
    grid: int,
    position: int,
) -> None:
    """Run `paste` for the crop (law, seed, sample) of `source`.

    Args:
        source, canvas, grid, position: see `paste`.
        law: float64 [VIEW_NUMBERS], a training view's settings in the order of `view_batches`.
        seed, sample: the crop's address in epoch 0, as the loader draws it.
    """
    place = np.empty(PLACE_NUMBERS, np.int64)
    # Only the box and the flip of the view are used here, so its side (1) does not matter.
    place_view(law, seed, 0, sample, (source.shape[0], source.shape[1]), 1, place)
    box = (place[TOP], place[LEFT], place[HEIGHT], place[WIDTH])
    paste(source, box, place[MIRROR] > 0, canvas, grid, position)


def combine(sources: Sequence[NDArray[np.uint8]], size: int, grid: int) -> NDArray[np.uint8]:
    """Return one size x size mosaic of grid x grid whole images, row by row, resized with antialiasing.

    Args:
        sources: grid**2 images, uint8 [H, W, 3], each of any size.
        size: side of the mosaic, pixels, at least `grid`.
        grid: tiles per side.

    Returns:
        uint8 [size, size, 3].

    Raises:
        ValueError: `grid` is outside 1..size, or there are not grid**2 sources, or one is not an RGB image.
    """
    canvas = _canvas(size, grid)
    if len(sources) != grid * grid:
        raise ValueError(f"{len(sources)} sources: expected {grid * grid} for a {grid} x {grid} mosaic")
    for position, source in enumerate(sources):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or source.size == 0:
            raise ValueError(f"source {position}: {source.dtype} {list(source.shape)}, expected uint8 [H, W, 3]")
        # numba would compile another version for a read-only or non-contiguous array.
        whole = np.require(source, requirements=["C", "W"])
        paste(whole, (0, 0, *source.shape[:2]), False, canvas, grid, position)
    return canvas


def _canvas(size: int, grid: int) -> NDArray[np.uint8]:
    if not 1 <= grid <= size:
        raise ValueError(f"grid={grid}: expected 1..{size} tiles per side of {size} pixels")
    return np.empty((size, size, 3), np.uint8)


def combine_crops(
    sources: Sequence[NDArray[np.uint8]],
    law: NDArray[np.float64],
    seeds: Sequence[int],
    samples: Sequence[int],
    size: int,
    grid: int,
) -> NDArray[np.uint8]:
    """Return one size x size mosaic of grid x grid crops, row by row.

    Args:
        sources: grid**2 images, uint8 [H, W, 3]; crop k is cut from sources[k].
        law: float64 [VIEW_NUMBERS], see `paste_crop`.
        seeds, samples: grid**2 addresses.
        size: side of the mosaic, pixels, at least `grid`.
        grid: tiles per side.

    Returns:
        uint8 [size, size, 3].

    Raises:
        ValueError: `grid` is outside 1..size, or a list does not have grid**2 members.
    """
    canvas = _canvas(size, grid)
    if not len(sources) == len(seeds) == len(samples) == grid * grid:
        found = f"{len(sources)} sources, {len(seeds)} seeds, {len(samples)} samples"
        raise ValueError(f"{found}: expected {grid * grid} of each for a {grid} x {grid} mosaic")
    for position, source in enumerate(sources):
        whole = np.require(source, requirements=["C", "W"])  # see `combine`
        paste_crop(whole, law, seeds[position], samples[position], canvas, grid, position)
    return canvas
