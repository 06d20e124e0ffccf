"""Gather, crop, antialiased resize, mirror and normalisation of a batch in one Triton kernel.

The arithmetic is that of `kernels.views.resize`: weights of 22 fractional bits from float64 formulas, rows first, an
8-bit image in between. Every program makes one row of one view. Levels are therefore those of the CPU in every bit;
what the engine promises is at `open_loader`. Triton's interpreter runs the kernel on a CPU (`TRITON_INTERPRET=1`),
which is how the tests compare them.
"""

import math

import torch
import triton
import triton.language as tl

_BITS, _ONE, _HALF = tl.constexpr(22), tl.constexpr(1 << 22), tl.constexpr(1 << 21)
_MOST_COLUMNS = 256
"""Columns of a view that one program makes; wider views take several programs a row."""


@triton.jit
def _span(index, pixels, resized):  # type: ignore[no-untyped-def]
    """Return center, inverse stretch, first source pixel and number of source pixels of resized pixel `index`."""
    scale = pixels.to(tl.float64) / resized.to(tl.float64)
    stretch = tl.maximum(scale, 1.0)
    center = (index.to(tl.float64) + 0.5) * scale
    start = tl.maximum((center - stretch + 0.5).to(tl.int32), 0)
    end = tl.minimum((center + stretch + 0.5).to(tl.int32), pixels)
    return center, 1.0 / stretch, start, end - start


@triton.jit
def _value(tap, center, inverse, start, count):  # type: ignore[no-untyped-def]
    """Return the triangle filter at a tap, or 0 for taps past `count`."""
    value = tl.maximum(1.0 - tl.abs(((tap + start).to(tl.float64) - center + 0.5) * inverse), 0.0)
    return tl.where(tap < count, value, 0.0)


@triton.jit
def _weight(value, total):  # type: ignore[no-untyped-def]
    """Return a weight as a whole number of 2**-22."""
    return (0.5 + value / total * _ONE).to(tl.int32)


@triton.jit
def _level(total):  # type: ignore[no-untyped-def]
    """Return a weighted sum, rounded to 8 bits; the sum starts at half a level."""
    return tl.minimum(total >> _BITS, 255)


@triton.jit
def _draw(  # type: ignore[no-untyped-def]
    images, samples, places, levels, out, height, width, size: tl.constexpr, taps: tl.constexpr, columns: tl.constexpr,
    normalise: tl.constexpr,
):  # fmt: skip
    """Make columns of row `y` of view `view`; pointers are those of `draw_on_device`, sides are those of an image."""
    view, y = tl.program_id(0) // size, tl.program_id(0) % size
    place = places + view * 9  # in the order of kernels.views.view_batches
    top, left, box_height, box_width = tl.load(place), tl.load(place + 1), tl.load(place + 2), tl.load(place + 3)
    resized_height, resized_width = tl.load(place + 4), tl.load(place + 5)
    window_top, window_left, mirror = tl.load(place + 6), tl.load(place + 7), tl.load(place + 8)

    x = tl.program_id(1) * columns + tl.arange(0, columns)
    shown = x < size
    x = tl.minimum(x, size - 1)
    index = window_left + tl.where(mirror > 0, size - 1 - x, x)
    center, inverse, start, count = _span(index, box_width, resized_width)
    total = tl.zeros([columns], tl.float64)
    for tap in range(taps):  # in order, as on the CPU: another order could round the sum differently
        total += _value(tap, center, inverse, start, count)
    number = tl.arange(0, taps)[:, None]
    weights = _weight(_value(number, center[None], inverse, start[None], count[None]), total[None])
    read = (number < count[None]) & shown[None]

    center_y, inverse_y, start_y, count_y = _span(window_top + y, box_height, resized_height)
    total_y = tl.zeros([], tl.float64)
    for tap in range(taps):
        total_y += _value(tap, center_y, inverse_y, start_y, count_y)

    first = images + tl.load(samples + view) * height * width * 3
    red = tl.full([columns], _HALF, tl.int32)
    green, blue = red, red
    for tap in range(count_y):
        line = first + ((top + start_y + tap) * width + left) * 3 + (start[None] + number) * 3
        weight = _weight(_value(tap, center_y, inverse_y, start_y, count_y), total_y)
        red += weight * _level(tl.sum(tl.load(line, read, 0).to(tl.int32) * weights, 0) + _HALF)
        green += weight * _level(tl.sum(tl.load(line + 1, read, 0).to(tl.int32) * weights, 0) + _HALF)
        blue += weight * _level(tl.sum(tl.load(line + 2, read, 0).to(tl.int32) * weights, 0) + _HALF)

    target = out + (view.to(tl.int64) * size + y) * size * 3 + x * 3
    _store(target, red, levels, shown, normalise)
    _store(target + 1, green, levels + 1, shown, normalise)
    _store(target + 2, blue, levels + 2, shown, normalise)


@triton.jit
def _store(target, total, levels, shown, normalise: tl.constexpr):  # type: ignore[no-untyped-def]
    """Store one channel: levels, or (level - shift) * scale in float32."""
    level = _level(total)
    if normalise:
        tl.store(target, (level.to(tl.float32) - tl.load(levels)) * tl.load(levels + 3), shown)
    else:
        tl.store(target, level.to(tl.uint8), shown)


def draw_on_device(
    images: torch.Tensor,
    samples: torch.Tensor,
    places: torch.Tensor,
    levels: torch.Tensor,
    out: torch.Tensor,
    taps: int,
) -> None:
    """Write the views of a batch to `out`, in one launch and without waiting for the device.

    Args:
        images: uint8 [N, H, W, 3]; all tensors lie on one device and are contiguous.
        samples: int64 [B], numbers of images.
        places: int32 [B, PLACE_NUMBERS], see `kernels.views.view_batches`.
        levels: float32 [2, 3], shift and scale of 8-bit levels; read unless `out` is uint8.
        out: [B, S, S, 3], uint8 levels or normalised float32; written.
        taps: see `most_taps`.
    """
    count, size = out.shape[:2]
    columns = min(triton.next_power_of_2(size), _MOST_COLUMNS)
    grid = (count * size, triton.cdiv(size, columns))
    _draw[grid](
        images, samples, places, levels, out, images.shape[1], images.shape[2],
        size=size, taps=taps, columns=columns, normalise=out.dtype != torch.uint8,
        enable_fp_fusion=False,  # a fused multiply-add would round centers differently from the CPU
    )  # fmt: skip


def most_taps(shrink: float) -> int:
    """Return the source pixels that a program reads for one resized pixel along a side, a power of two.

    Args:
        shrink: largest number of source pixels for one resized pixel in any view, such as the image's side over the
            view's.
    """
    return int(triton.next_power_of_2(2 * math.ceil(max(shrink, 1.0)) + 1))
