"""Whole batches of views from decoded images: what a loader does per batch, in one call without the GIL.

Decoded images lie in one flat buffer, image i as height[i] x width[i] x 3 bytes from offset[i] on.
"""

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.boxes import center_offset, random_crop_in_tile, random_flip, resized_sides
from fastdc.kernels.jit import kernel
from fastdc.kernels.resize import resize_crop, resize_window
from fastdc.kernels.rng import stream_key

# A view as numbers, because numba's parallel loops take arrays but no tuples: the positions of its settings.
SCALE_LOW, SCALE_HIGH, RATIO_LOW, RATIO_HIGH, FLIP_ON, TILE_GRID, RESIZE_SIDE = range(7)
VIEW_NUMBERS = 7  # RESIZE_SIDE above 0 means the validation view, for which the other settings do not count


@kernel
def augment(source: NDArray[np.uint8], view: NDArray[np.float64], key: np.uint64, out: NDArray[np.uint8]) -> None:
    """Training view: random box (inside one tile if grid > 1), resized to `out` [S, S, 3], mirrored or not."""
    box = random_crop_in_tile(
        key,
        source.shape[0],
        source.shape[1],
        int(view[TILE_GRID]),
        view[SCALE_LOW],
        view[SCALE_HIGH],
        view[RATIO_LOW],
        view[RATIO_HIGH],
    )
    resize_crop(source, box, view[FLIP_ON] > 0 and random_flip(key), out)


@kernel
def center_view(source: NDArray[np.uint8], side: int, out: NDArray[np.uint8]) -> None:
    """Validation view: shorter side resized to `side`, then the central [S, S] window -> `out` [S, S, 3]; side >= S."""
    height, width = source.shape[0], source.shape[1]
    resized = resized_sides(height, width, side)
    offset = (center_offset(resized[0], out.shape[0]), center_offset(resized[1], out.shape[1]))
    resize_window(source, (0, 0, height, width), resized, offset, False, out)


@kernel
def make_view(
    source: NDArray[np.uint8],
    view: NDArray[np.float64],
    seed: int,
    epoch: int,
    sample: int,
    out: NDArray[np.uint8],
) -> None:
    """The view that `view` describes of one image [H, W, 3] -> `out` uint8 [S, S, 3]."""
    if view[RESIZE_SIDE] > 0:
        center_view(source, int(view[RESIZE_SIDE]), out)
    else:
        augment(source, view, stream_key(seed, epoch, sample), out)


@kernel
def resident_share(
    pixels: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    samples: NDArray[np.int64],
    view: NDArray[np.float64],
    seed: int,
    epoch: int,
    share: int,
    shares: int,
    out: NDArray[np.uint8],
) -> None:
    """Every `shares`-th view of a batch, from position `share` on; with share 0 of 1 the whole batch.

    Args:
        pixels: flat buffer of decoded images; offsets, heights, widths: [N], where each image lies in it.
        samples: [B] sample numbers.
        view: [VIEW_NUMBERS].
        out: uint8 [B, S, S, 3], written.
    """
    for position in range(share, samples.shape[0], shares):
        sample = samples[position]
        height, width, start = heights[sample], widths[sample], offsets[sample]
        source = pixels[start : start + height * width * 3].reshape((height, width, 3))
        make_view(source, view, seed, epoch, sample, out[position])
