"""Mosaics of grid x grid whole images, shrunk and tiled into one square image (patch combination)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.views.boxes import tile_box
from fastdc.kernels.views.resize import resize_crop


@kernel
def paste_tile(source: NDArray[np.uint8], canvas: NDArray[np.uint8], grid: int, position: int) -> None:
    """Resize the whole of `source` to tile `position` of `canvas`, without keeping its aspect ratio.

    Args:
        source: uint8 [H, W, 3], C-contiguous.
        canvas: uint8 [S, S, 3], the tile is written; tiles are those of `boxes.tile_box`.
        grid: tiles per side, 1..S.
        position: 0..grid**2 - 1, row by row.
    """
    top, left, height, width = tile_box(canvas.shape[0], canvas.shape[1], grid, position)
    tile = np.empty((height, width, 3), np.uint8)
    resize_crop(source, (0, 0, source.shape[0], source.shape[1]), False, tile)
    canvas[top : top + height, left : left + width] = tile


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
    if not 1 <= grid <= size:
        raise ValueError(f"grid={grid}: expected 1..{size} tiles per side of {size} pixels")
    if len(sources) != grid * grid:
        raise ValueError(f"{len(sources)} sources: expected {grid * grid} for a {grid} x {grid} mosaic")
    canvas = np.empty((size, size, 3), np.uint8)
    for position, source in enumerate(sources):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or source.size == 0:
            raise ValueError(f"source {position}: {source.dtype} {list(source.shape)}, expected uint8 [H, W, 3]")
        # numba would compile another version for a read-only or non-contiguous array.
        paste_tile(np.require(source, requirements=["C", "W"]), canvas, grid, position)
    return canvas
