"""Whole batches of views from decoded images: a loader's work per batch, in one call without the GIL.

A batch may hold several views of each image, each with its own settings, seed and side (K requests). All of them lie in
one flat buffer of bytes: first all positions of request 0, then those of request 1, and so on. A view is [S, S, 3]
levels or, if `levels` is given, normalised float32.

An epoch may visit an image several times. In a set of N samples, visit v of sample i has the number i + v * N, which
addresses random draws of its own. The first round's visit numbers equal the sample numbers.
"""

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.core.rng import stream_key
from fastdc.kernels.views.boxes import center_offset, random_crop_in_window, random_flip, random_window, resized_sides
from fastdc.kernels.views.resize import normalise, normalised_window, resize_window

# Positions of a view's settings in an array of numbers: numba's parallel loops take arrays but no tuples.
SCALE_LOW, SCALE_HIGH, RATIO_LOW, RATIO_HIGH, FLIP_ON, TILE_GRID, RESIZE_SIDE = range(7)
TILE_WHOLE, TILE_ALIGN, TILE_LOW, TILE_HIGH = range(7, 11)
VIEW_NUMBERS = 11  # RESIZE_SIDE above 0 means the validation view, which ignores the other settings

# Positions of a view's place: the box in the image, the size it is resized to, the window in that, and the mirror flag.
TOP, LEFT, HEIGHT, WIDTH, RESIZED_HEIGHT, RESIZED_WIDTH, WINDOW_TOP, WINDOW_LEFT, MIRROR = range(9)
PLACE_NUMBERS = 9

_CHANNELS = 3


@kernel
def place_view(
    view: NDArray[np.float64],
    seed: int,
    epoch: int,
    sample: int,
    sides: tuple[int, int],
    size: int,
    place: NDArray[np.int64],
) -> None:
    """Write where the view of an image of (height, width) `sides` lies to `place`, int64 [PLACE_NUMBERS].

    Training: a random box (of a mosaic: inside `random_window`), resized to size x size, mirrored or not.
    Validation: shorter side resized to the view's RESIZE_SIDE, then the central size x size window.
    """
    height, width = sides
    place[:] = 0
    if view[RESIZE_SIDE] > 0:
        resized = resized_sides(height, width, int(view[RESIZE_SIDE]))
        place[HEIGHT], place[WIDTH] = height, width
        place[RESIZED_HEIGHT], place[RESIZED_WIDTH] = resized
        place[WINDOW_TOP], place[WINDOW_LEFT] = center_offset(resized[0], size), center_offset(resized[1], size)
        return
    key = stream_key(seed, epoch, sample)
    window = random_window(key, height, width, int(view[TILE_GRID]), view[TILE_WHOLE], view[TILE_ALIGN])
    # `tile_scale` applies inside a window smaller than the image, `scale` otherwise.
    whole = window[2] == height and window[3] == width
    low, high = (view[SCALE_LOW], view[SCALE_HIGH]) if whole else (view[TILE_LOW], view[TILE_HIGH])
    place[TOP], place[LEFT], place[HEIGHT], place[WIDTH] = random_crop_in_window(
        key, window, low, high, view[RATIO_LOW], view[RATIO_HIGH]
    )
    place[RESIZED_HEIGHT], place[RESIZED_WIDTH] = size, size
    place[MIRROR] = view[FLIP_ON] > 0 and random_flip(key)


@kernel
def place_views(
    view: NDArray[np.float64],
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    size: int,
    places: NDArray[np.int64],
) -> None:
    """Run `place_view` for every visit [B] -> `places` int64 [B, PLACE_NUMBERS]; heights and widths are [N]."""
    for position in range(samples.shape[0]):
        sample = samples[position] % heights.shape[0]
        place_view(view, seed, epoch, samples[position], (heights[sample], widths[sample]), size, places[position])


@kernel
def draw_view(
    source: NDArray[np.uint8],
    first_row: int,
    place: NDArray[np.int64],
    size: int,
    levels: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    """Draw the view at `place` to `out`, as the bytes of [size, size, 3] levels or float32.

    Args:
        source: uint8 [h, W, 3], the image's rows from `first_row` on; at least those of the box.
        first_row: row of the image that is row 0 of `source`.
        place: int64 [PLACE_NUMBERS], see `place_view`.
        size: side of the view.
        levels: float32 [2, at least 3 * size] to normalise with, or [2, 0] for 8-bit levels.
        out: flat uint8, written.
    """
    box = (place[TOP] - first_row, place[LEFT], place[HEIGHT], place[WIDTH])
    resized, offset = (place[RESIZED_HEIGHT], place[RESIZED_WIDTH]), (place[WINDOW_TOP], place[WINDOW_LEFT])
    mirror = place[MIRROR] > 0
    if levels.shape[1] > 0:
        normalised_window(
            source, box, resized, offset, mirror, levels, out.view(np.float32).reshape((size, size, _CHANNELS))
        )
    else:
        resize_window(source, box, resized, offset, mirror, out.reshape((size, size, _CHANNELS)))


@kernel
def view_bytes(size: int, levels: NDArray[np.float32]) -> int:
    """Return the bytes of one view of side `size`."""
    return size * size * _CHANNELS * (4 if levels.shape[1] > 0 else 1)


@kernel
def draw_views(
    source: NDArray[np.uint8],
    first_row: int,
    places: NDArray[np.int64],
    sides: NDArray[np.int64],
    levels: NDArray[np.float32],
    position: int,
    count: int,
    out: NDArray[np.uint8],
) -> None:
    """Draw all views of the image at `position` of a batch of `count` samples; see `draw_view`.

    Args:
        source, first_row, levels: see `draw_view`.
        places: int64 [K, PLACE_NUMBERS].
        sides: int64 [K].
        position: the image's place in the batch, 0..count - 1.
        count: number of samples in the batch.
        out: flat uint8, the whole batch, written.
    """
    start = 0
    for k in range(sides.shape[0]):
        length = view_bytes(sides[k], levels)
        first = start + position * length
        draw_view(source, first_row, places[k], sides[k], levels, out[first : first + length])
        start += count * length


@kernel
def make_views(
    source: NDArray[np.uint8],
    views: NDArray[np.float64],
    seeds: NDArray[np.int64],
    sides: NDArray[np.int64],
    levels: NDArray[np.float32],
    epoch: int,
    sample: int,
    position: int,
    count: int,
    out: NDArray[np.uint8],
) -> None:
    """Make all views of one whole image [H, W, 3]; see `place_view` and `draw_views`.

    Args:
        source: uint8 [H, W, 3], the image.
        views: float64 [K, VIEW_NUMBERS].
        seeds, sides: int64 [K].
        epoch, sample: address of the draws; see `rng.stream_key`.
        levels, position, count, out: see `draw_views`.
    """
    places = np.empty((sides.shape[0], PLACE_NUMBERS), np.int64)
    for k in range(sides.shape[0]):
        place_view(views[k], seeds[k], epoch, sample, (source.shape[0], source.shape[1]), sides[k], places[k])
    draw_views(source, 0, places, sides, levels, position, count, out)


@kernel
def resident_share(
    pixels: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    samples: NDArray[np.int64],
    views: NDArray[np.float64],
    seeds: NDArray[np.int64],
    sides: NDArray[np.int64],
    levels: NDArray[np.float32],
    epoch: int,
    share: int,
    shares: int,
    out: NDArray[np.uint8],
) -> None:
    """Make the views of every `shares`-th sample of a batch, from `share` on; with share 0 of 1 the whole batch.

    Args:
        pixels: flat buffer of decoded images; offsets, heights, widths: [N], where each image lies in it.
        samples: [B] visit numbers.
        views: [K, VIEW_NUMBERS]; seeds, sides: int64 [K]; levels: see `draw_view`.
        out: flat uint8, the whole batch, written.
    """
    for position in range(share, samples.shape[0], shares):
        sample = samples[position] % heights.shape[0]
        height, width, start = heights[sample], widths[sample], offsets[sample]
        source = pixels[start : start + height * width * _CHANNELS].reshape((height, width, _CHANNELS))
        make_views(source, views, seeds, sides, levels, epoch, samples[position], position, samples.shape[0], out)


@kernel
def finished_share(
    finished: NDArray[np.uint8],
    samples: NDArray[np.int64],
    levels: NDArray[np.float32],
    share: int,
    shares: int,
    out: NDArray[np.uint8],
) -> None:
    """Copy or normalise every `shares`-th of a batch of finished views, from position `share` on.

    Args:
        finished: uint8 [N, n], the levels of every sample's view, n of them.
        samples: [B] visit numbers.
        levels: see `draw_view`.
        out: flat uint8, the whole batch, written.
    """
    length = finished.shape[1] * (4 if levels.shape[1] > 0 else 1)
    row = levels.shape[1]
    for position in range(share, samples.shape[0], shares):
        view = finished[samples[position] % finished.shape[0]]
        target = out[position * length : (position + 1) * length]
        if row == 0:
            target[:] = view
            continue
        floats = target.view(np.float32)
        # `levels` repeats every 3 channels and its length is a multiple of 3, so chunks of that length stay in phase.
        for start in range(0, view.shape[0], row):
            end = min(start + row, view.shape[0])
            normalise(view[start:end], levels, floats[start:end])
