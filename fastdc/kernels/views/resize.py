"""Crop, antialiased bilinear resize and optional mirror of 8-bit RGB images, bit for bit equal to Pillow.

Pillow resizes 8-bit images in two passes, rows first and columns second. It uses integer weights of 22 fractional bits
and an 8-bit image in between (Pillow, src/libImaging/Resample.c defines the arithmetic). This module computes the same
numbers differently: both passes are sums of contiguous lines (`_blend`, which the compiler vectorises). For that the
first pass needs a transposed image. Blocks of 96 rows are transposed, blended and transposed back inside the cache.

Since Pillow 13 (its pull request 9549), an image whose height shrinks more than its width may go through columns first.
We keep the old order, so that results do not depend on the version. The two differ by at most one level.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel

_PRECISION_BITS = 22
_SHIFT = np.uint32(_PRECISION_BITS)
_ROUND = np.uint32(1 << (_PRECISION_BITS - 1))
_MAXIMUM = np.uint32(255)
_CHANNELS = 3
_BLOCK = 96  # rows transposed at a time: long lines for `_blend`, while a block of a 500-px image fits in 150 KB
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)


@kernel
def _taps(source_length: int, resized_length: int) -> int:
    """Return the most source pixels that one resized pixel reads, rounded up to the four `_blend` takes at once."""
    return (math.ceil(max(source_length / resized_length, 1.0)) * 2 + 4) // 4 * 4


@kernel
def _fill_weights(
    source_length: int,
    resized_length: int,
    first: int,
    mirror: bool,
    spans: NDArray[np.int64],
    weights: NDArray[np.uint32],
) -> None:
    """Write the weights of the resized pixels first .. first + n - 1, in reverse order if `mirror`.

    Args:
        spans: [n, 2], set to the first source pixel and the number of source pixels that each resized pixel reads.
        weights: [n, taps], set to the triangle filter's values in units of 2**-22.
    """
    scale = source_length / resized_length
    stretch = max(scale, 1.0)
    inverse = 1.0 / stretch
    count_resized = spans.shape[0]
    values = np.empty(weights.shape[1], np.float64)
    for index in range(count_resized):  # Pillow's formulas; int() truncates as a cast in C does
        center = (first + index + 0.5) * scale
        start = max(int(center - stretch + 0.5), 0)
        count = min(int(center + stretch + 0.5), source_length) - start
        total = 0.0
        for tap in range(count):
            value = max(1.0 - abs((tap + start - center + 0.5) * inverse), 0.0)
            values[tap] = value
            total += value
        target = count_resized - 1 - index if mirror else index
        spans[target, 0] = start
        spans[target, 1] = count
        for tap in range(count):
            weights[target, tap] = np.uint32(0.5 + values[tap] / total * (1 << _PRECISION_BITS))


@kernel
def _blend(
    lines: NDArray[np.uint8],
    start: int,
    count: int,
    weights: NDArray[np.uint32],
    row: int,
    sums: NDArray[np.uint32],
    out: NDArray[np.uint8],
) -> None:
    """Write the sum of the `count` lines from `start` on, weighted by weights[row] and rounded to 8 bits, to `out`.

    Rows are indexed, not taken as arrays: numba counts the references to each such array, 15 % of the time of a view.

    Enlarging reads two lines and halving up to four; more lines go through `sums`, four at a time. Weights are never
    negative, so no value falls below 0 and uint32 cannot overflow. Weights past `count` are 0.
    """
    length, last = out.shape[0], start + count - 1
    # The min() repeats the last line where fewer remain; its weight there is 0.
    a, b, wa, wb = start, min(start + 1, last), weights[row, 0], weights[row, 1]
    if count <= 2:
        for i in range(length):
            out[i] = min(np.uint32(_ROUND + lines[a, i] * wa + lines[b, i] * wb) >> _SHIFT, _MAXIMUM)
        return
    c, d, wc, wd = start + 2, min(start + 3, last), weights[row, 2], weights[row, 3]
    if count <= 4:
        for i in range(length):
            total = np.uint32(_ROUND + lines[a, i] * wa + lines[b, i] * wb + lines[c, i] * wc + lines[d, i] * wd)
            out[i] = min(total >> _SHIFT, _MAXIMUM)
        return
    for i in range(length):
        sums[i] = _ROUND + lines[a, i] * wa + lines[b, i] * wb + lines[c, i] * wc + lines[d, i] * wd
    for tap in range(4, count, 4):
        a, b, c, d = start + tap, min(start + tap + 1, last), min(start + tap + 2, last), min(start + tap + 3, last)
        wa, wb, wc, wd = weights[row, tap], weights[row, tap + 1], weights[row, tap + 2], weights[row, tap + 3]
        for i in range(length):
            sums[i] += lines[a, i] * wa + lines[b, i] * wb + lines[c, i] * wc + lines[d, i] * wd
    for i in range(length):
        out[i] = min(sums[i] >> _SHIFT, _MAXIMUM)


@kernel
def _copy_word(
    source: NDArray[np.uint8],
    row: np.uint64,
    start: np.uint64,
    target: NDArray[np.uint8],
    line: np.uint64,
    place: np.uint64,
) -> None:
    """Copy a pixel and the byte after it, from `start` of a row to `place` of a line.

    The compiler turns this into one 32-bit load and one 32-bit store. Indices are unsigned, because for signed ones
    numba adds a check for negative (wrap-around) indices.
    """
    low = np.uint32(source[row, start]) | np.uint32(source[row, start + _ONE]) << np.uint32(8)
    high = np.uint32(source[row, start + _TWO]) | np.uint32(source[row, start + _THREE]) << np.uint32(8)
    word = low | high << np.uint32(16)
    target[line, place] = np.uint8(word)
    target[line, place + _ONE] = np.uint8(word >> np.uint32(8))
    target[line, place + _TWO] = np.uint8(word >> np.uint32(16))
    target[line, place + _THREE] = np.uint8(word >> np.uint32(24))


@kernel
def _turn_in(source: NDArray[np.uint8], top: int, left: int, rows: int, turned: NDArray[np.uint8]) -> None:
    """Write turned[x, 3 * r + c] = source[top + r, left + x, c] for `rows` rows; overwrites one byte after them."""
    flat = source.reshape((source.shape[0], _CHANNELS * source.shape[1]))
    last = turned.shape[0] - 1
    for x in range(last):
        start, line = np.uint64(_CHANNELS * (left + x)), np.uint64(x)
        for r in range(rows):
            _copy_word(flat, np.uint64(top + r), start, turned, line, np.uint64(_CHANNELS * r))
    for r in range(rows):  # byte by byte: `_copy_word` would read past the image after its last pixel
        for c in range(_CHANNELS):
            turned[last, _CHANNELS * r + c] = source[top + r, left + last, c]


@kernel
def _turn_out(turned: NDArray[np.uint8], rows: int, lines: NDArray[np.uint8], first: int) -> None:
    """Write lines[first + r, 3 * x + c] = turned[x, 3 * r + c], the reverse of `_turn_in`.

    It overwrites one byte after each line.
    """
    for r in range(rows):
        start, line = np.uint64(_CHANNELS * r), np.uint64(first + r)
        for x in range(turned.shape[0]):
            _copy_word(turned, np.uint64(x), start, lines, line, np.uint64(_CHANNELS * x))


@kernel
def _resize_rows(
    source: NDArray[np.uint8],
    top: int,
    left: int,
    spans: NDArray[np.int64],
    weights: NDArray[np.uint32],
    lines: NDArray[np.uint8],
) -> None:
    """Run the first pass: resize source rows from `top` and column `left` on to `lines` [rows, 3 * n + 1].

    The last byte of each line is unused.
    """
    # With `mirror` the spans run backwards, so either end may hold the first pixel.
    first = min(spans[0, 0], spans[-1, 0])
    end = max(spans[0, 0] + spans[0, 1], spans[-1, 0] + spans[-1, 1])
    turned = np.empty((end - first, _CHANNELS * _BLOCK + 1), np.uint8)
    resized = np.empty((spans.shape[0], _CHANNELS * _BLOCK + 1), np.uint8)
    sums = np.empty(_CHANNELS * _BLOCK, np.uint32)
    for block in range(0, lines.shape[0], _BLOCK):
        rows = min(_BLOCK, lines.shape[0] - block)
        _turn_in(source, top + block, left + first, rows, turned)
        for x in range(spans.shape[0]):
            _blend(turned, spans[x, 0] - first, spans[x, 1], weights, x, sums, resized[x, : _CHANNELS * rows])
        _turn_out(resized, rows, lines, block)


@kernel
def _first_pass(
    source: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    resized: tuple[int, int],
    offset: tuple[int, int],
    mirror: bool,
    sides: tuple[int, int],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint32]]:
    """Resize all rows that a window of (height, width) `sides` reads.

    Returns:
        (the resized rows, spans and weights of the second pass, which blends these rows).
    """
    top, left, height, width = box
    out_height, out_width = sides
    columns = np.empty((out_width, 2), np.int64)
    # Zeros, because `_blend` reads a multiple of 4 weights.
    column_weights = np.zeros((out_width, _taps(width, resized[1])), np.uint32)
    _fill_weights(width, resized[1], offset[1], mirror, columns, column_weights)
    rows = np.empty((out_height, 2), np.int64)
    row_weights = np.zeros((out_height, _taps(height, resized[0])), np.uint32)
    _fill_weights(height, resized[0], offset[0], False, rows, row_weights)
    first = rows[0, 0]
    lines = np.empty((rows[-1, 0] + rows[-1, 1] - first, _CHANNELS * out_width + 1), np.uint8)
    _resize_rows(source, top + first, left, columns, column_weights, lines)
    rows[:, 0] -= first
    return lines, rows, row_weights


@kernel
def resize_window(
    source: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    resized: tuple[int, int],
    offset: tuple[int, int],
    mirror: bool,
    out: NDArray[np.uint8],
) -> None:
    """Write the window at `offset` of the box's content resized to `resized`; compute only the window.

    Args:
        source: uint8 [H, W, 3], C-contiguous.
        box: (top, left, height, width) inside `source`.
        resized: (height, width) to which the whole box is resized.
        offset: (top, left) of the window inside the resized box; the window has the size of `out`.
        mirror: flip the window left to right.
        out: uint8 [h, w, 3], C-contiguous, written.
    """
    lines, rows, weights = _first_pass(source, box, resized, offset, mirror, (out.shape[0], out.shape[1]))
    flat = out.reshape((out.shape[0], _CHANNELS * out.shape[1]))
    sums = np.empty(_CHANNELS * out.shape[1], np.uint32)
    for y in range(out.shape[0]):
        _blend(lines, rows[y, 0], rows[y, 1], weights, y, sums, flat[y])


@kernel
def normalise(line: NDArray[np.uint8], levels: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write (line - shift) * scale to `out` in float32.

    The order of operations is that of torch's own normalisation.

    Args:
        line: uint8 [n].
        levels: float32 [2, at least n]: shift and scale of each position, in 8-bit levels.
        out: float32 [n], written.
    """
    for i in range(line.shape[0]):
        out[i] = (np.float32(line[i]) - levels[0, i]) * levels[1, i]


@kernel
def normalised_window(
    source: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    resized: tuple[int, int],
    offset: tuple[int, int],
    mirror: bool,
    levels: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Run `resize_window` and normalise each line while it is in the cache -> `out` float32 [h, w, 3].

    Args:
        source, box, resized, offset, mirror: see `resize_window`.
        levels: float32 [2, at least 3 * w], see `normalise`.
        out: float32 [h, w, 3], C-contiguous, written.
    """
    lines, rows, weights = _first_pass(source, box, resized, offset, mirror, (out.shape[0], out.shape[1]))
    flat = out.reshape((out.shape[0], _CHANNELS * out.shape[1]))
    line, sums = np.empty(flat.shape[1], np.uint8), np.empty(flat.shape[1], np.uint32)
    for y in range(out.shape[0]):
        _blend(lines, rows[y, 0], rows[y, 1], weights, y, sums, line)
        normalise(line, levels, flat[y])


@kernel
def resize_crop(
    source: NDArray[np.uint8], box: tuple[int, int, int, int], mirror: bool, out: NDArray[np.uint8]
) -> None:
    """Write Pillow's `image.crop(box).resize((w, h), BILINEAR)`, mirrored left to right if `mirror`.

    Args:
        source: uint8 [H, W, 3], C-contiguous.
        box: (top, left, height, width) inside `source`.
        mirror: flip the result left to right.
        out: uint8 [h, w, 3], C-contiguous, written.
    """
    resize_window(source, box, (out.shape[0], out.shape[1]), (0, 0), mirror, out)
