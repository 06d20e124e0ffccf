"""Scores from the dynamics log: aggregation over epochs in one pass over the bytes and O(N) memory.

Every function takes one field of the log, float32 (or float64) [T, N]. It may be memory-mapped and need not be
contiguous. Sums are in float64 in epoch order, and their bits do not depend on the number of threads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError
from fastdc.kernels.core.jit import kernel
from fastdc.kernels.scores.chunks import BLOCK, load_block, over_rows, rows_of


def mean_over_epochs(values: NDArray[np.floating[Any]], start: int, stop: int) -> NDArray[np.float64]:
    """Return the mean of one field over the epochs start..stop-1 (counted from 0).

    Args:
        values: [T, N], one field of the log.
        start, stop: the window of epochs.

    Returns:
        float64 [N], summed in float64.

    Raises:
        MethodError: the window is empty or reaches past the log, or a value in it is not finite.
    """
    check_epochs(values, start, stop)
    rows, total = rows_of(values[start:stop]), np.zeros(values.shape[1])
    over_rows(lambda a, b: _sum_epochs(rows.line, rows.step, rows.epochs, a, b, total), rows)
    check_finite(values, start, stop, total)
    return total / (stop - start)


def forgetting_events(margins: NDArray[np.floating[Any]], start: int, stop: int) -> NDArray[np.float64]:
    """Count the forgetting events of each sample in the epochs start..stop-1 (counted from 0), float64 [N].

    It is the number of t with m_{t-1} > 0 >= m_t, correct then wrong (Toneva et al. 2019). A sample that was never
    correct gets T, which no other sample can reach, so it ranks as the hardest. High = hard. A tie (m = 0) is wrong.

    Args:
        margins: [T, N], the field "margin" of the log, m_t = z_y - max over j != y of z_j.
        start, stop: the window of epochs, T = stop - start.

    Raises:
        MethodError: see `mean_over_epochs`.
    """
    check_epochs(margins, start, stop)
    rows, total = rows_of(margins[start:stop]), np.zeros(margins.shape[1])
    forgetting = np.zeros_like(total)

    def work(begin: int, end: int) -> None:
        _follow_margins(rows.line, rows.step, rows.epochs, begin, end, total, forgetting)

    over_rows(work, rows)
    check_finite(margins, start, stop, total)
    return forgetting


def check_epochs(values: NDArray[Any], start: int, stop: int) -> None:
    """Check that a window of epochs lies inside the log.

    Raises:
        MethodError: it does not; the message names the window and the log's epochs.
    """
    if not 0 <= start < stop <= values.shape[0]:
        raise MethodError(f"epochs {start + 1} to {stop} requested, but the log holds 1 to {values.shape[0]}")


def check_finite(values: NDArray[Any], start: int, stop: int, total: NDArray[np.float64]) -> None:
    """Check that a log has only finite values, from the sum over the epochs, `total` [N].

    Only if a sum is not finite are the values themselves searched.

    Raises:
        MethodError: a value is not finite; the message names the first such epoch and its first such sample.
    """
    if np.isfinite(total).all():
        return
    for epoch in range(start, stop):
        bad = np.flatnonzero(~np.isfinite(values[epoch]))
        if bad.size:
            raise MethodError(f"dynamics log: epoch {epoch + 1}, sample {bad[0]} is not finite; observe again")


@kernel
def _sum_epochs(line: NDArray[Any], step: int, epochs: int, start: int, stop: int, total: NDArray[np.float64]) -> None:
    """Add the epochs of samples start..stop-1 of `Rows` to `total` [N]."""
    for epoch in range(epochs):
        row, sums = line[epoch * step + start : epoch * step + stop], total[start:stop]
        for i in range(sums.size):
            sums[i] += row[i]


@kernel
def _follow_margins(
    line: NDArray[Any],
    step: int,
    epochs: int,
    start: int,
    stop: int,
    total: NDArray[np.float64],
    forgetting: NDArray[np.float64],
) -> None:
    """Write the sum of margins and the forgetting of samples start..stop-1 to `total` and `forgetting`, both [N]."""
    block = np.empty((epochs, BLOCK))
    for begin in range(start, stop, BLOCK):
        width = min(BLOCK, stop - begin)
        load_block(line, step, epochs, begin, width, block)
        _follow_block(block, width, total[begin : begin + width], forgetting[begin : begin + width])


@kernel
def _follow_block(
    block: NDArray[np.float64], width: int, total: NDArray[np.float64], forgetting: NDArray[np.float64]
) -> None:
    """Run `_follow_margins` on a block [T, BLOCK]. Numbers replace branches, so that the loops are vectorised."""
    ever, before = np.zeros(width), np.zeros(width)
    for epoch in range(block.shape[0]):
        margins = block[epoch]
        for i in range(width):
            correct = 1.0 if margins[i] > 0 else 0.0
            total[i] += margins[i]
            forgetting[i] += before[i] * (1.0 - correct)
            ever[i] = max(ever[i], correct)
            before[i] = correct
    for i in range(width):
        if ever[i] == 0.0:
            forgetting[i] = block.shape[0]
