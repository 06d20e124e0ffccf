"""Scores from windows that slide over the epochs: Dyn-Unc, DUAL, CAD-Prune and TDDS share one kernel.

Each window's mean and squared deviations are computed anew, in two passes over values in the cache. That costs less
than reading the log from a disk. It also avoids the rounding errors that build up in running sums.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError
from fastdc.kernels.core.jit import kernel
from fastdc.kernels.scores.chunks import BLOCK, load_block, over_rows, rows_of
from fastdc.kernels.scores.epochs import check_finite


class WindowScores(NamedTuple):
    """Results of one pass over the windows of p_y, each float64 [N]; see `window_scores`."""

    dyn_unc: NDArray[np.float64]
    dual: NDArray[np.float64]
    mean: NDArray[np.float64]


def window_scores(p_y: NDArray[np.floating[Any]], window: int = 10) -> WindowScores:
    """Compute Dyn-Unc and DUAL in one pass, over T - J + 1 windows of J = `window` epochs.

    s_k = 10 * standard deviation of p_y over epochs k..k+J-1 (unbiased: divided by J - 1), m_k = its mean there.
    dyn_unc: mean over k of s_k (He et al. 2024). dual: mean over k of s_k * (1 - m_k) (Cho et al. 2025). High = hard.
    mean: mean of p_y over all T epochs, which DUAL's Beta sampling reads.

    Args:
        p_y: [T, N], probability of the label; 0 is an ordinary value.
        window: epochs J per window, at least 2.

    Raises:
        MethodError: window < 2, T < window, or a value is not finite.
    """
    epochs = check_window("window", window, 2, p_y.shape[0], window)
    windows = epochs - window + 1
    # The kernel sums Euclidean norms; norm / sqrt(J - 1) is the unbiased standard deviation.
    weights = np.full(windows, 10.0 / (np.sqrt(window - 1) * windows))
    spread, lean, total = _slide(p_y, 0, window, weights)
    return WindowScores(spread, lean, total / epochs)


def cad_scores(
    series: NDArray[np.floating[Any]],
    window: int = 6,
    last_windows: int = 2,
    *,
    omit_last: bool = False,
) -> NDArray[np.float64]:
    """Compute CAD-Prune: the mean standard deviation in the last W = `last_windows` windows of J = `window` epochs.

    The standard deviation is unbiased (divided by J - 1). High = hard (Dey et al. 2026). Only the epochs of these
    windows are read.

    Args:
        series: [T, N], the fluctuating quantity: the probability of the label, or EL2N.
        window: epochs J per window, at least 2.
        last_windows: windows W, at least 1.
        omit_last: leave out the window that ends with the last epoch, so that the W windows end one epoch earlier.

    Raises:
        MethodError: window < 2, last_windows < 1, T is below window + last_windows - 1 (one more with `omit_last`), or
            a value is not finite.
    """
    if last_windows < 1:
        raise MethodError(f"last_windows={last_windows}: expected at least 1")
    needed = window + last_windows - 1 + omit_last
    epochs = check_window("window", window, 2, series.shape[0], needed)
    weights = np.full(last_windows, 1.0 / (np.sqrt(window - 1) * last_windows))
    read = series[: epochs - omit_last]
    spread: NDArray[np.float64] = _slide(read, epochs - needed, window, weights)[0]
    return spread


def tdds_scores(distances: NDArray[np.floating[Any]], window: int = 10, decay: float = 0.9) -> NDArray[np.float64]:
    """Compute TDDS: an exponentially weighted sum of how far steps between epochs deviate from their window's mean.

    q_t = sum_c |p_{t+1,c} (ln p_{t+1,c} - ln p_{t,c})|. A window of J = `window` epochs k..k+J-1 holds J - 1 steps;
    d_k = Euclidean norm of their deviations from their mean. Score = sum over k = 0..T-J of
    `decay` * (1 - decay)^(T-J-k) * d_k (Zhang et al. 2024). High = hard.

    Args:
        distances: [T - 1, N], q_t.
        window: epochs J per window, at least 3.
        decay: weight of the newest window, in (0, 1].

    Raises:
        MethodError: window < 3, T < window, decay outside (0, 1], or a value is not finite.
    """
    epochs = check_window("window", window, 3, distances.shape[0] + 1, window)
    if not 0 < decay <= 1:
        raise MethodError(f"decay={decay}: expected above 0, at most 1")
    weights = decay * (1 - decay) ** np.arange(epochs - window, -1, -1.0)
    spread: NDArray[np.float64] = _slide(distances, 0, window - 1, weights)[0]
    return spread


def check_window(name: str, window: int, smallest: int, epochs: int, needed: int) -> int:
    """Return `epochs` after checking that a window of that length fits into them.

    Raises:
        MethodError: the window is shorter than `smallest`, or there are fewer than `needed` epochs.
    """
    if window < smallest:
        raise MethodError(f"{name}={window}: expected at least {smallest} epochs")
    if epochs < needed:
        raise MethodError(f"{name}={window}: needs {needed} epochs, found {epochs}; observe longer or lower {name}")
    return epochs


def _slide(values: NDArray[Any], first: int, length: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Run `_slide_chunk` over all samples and return its sums, float64 [3, N].

    Raises:
        MethodError: a value is not finite.
    """
    rows, out = rows_of(values[first:]), np.zeros((3, values.shape[1]))

    def work(start: int, stop: int) -> None:
        _slide_chunk(rows.line, rows.step, rows.epochs, length, weights, start, stop, out)

    over_rows(work, rows)
    check_finite(values, first, values.shape[0], out[2])
    return out


@kernel
def _slide_chunk(
    line: NDArray[Any],
    step: int,
    epochs: int,
    length: int,
    weights: NDArray[np.float64],
    start: int,
    stop: int,
    out: NDArray[np.float64],
) -> None:
    """Write weighted sums over the windows of samples start..stop-1 of `Rows`; window k is rows k..k+length-1.

    With m_k the mean and d_k the Euclidean norm of the deviations from it: out[0] = sum_k w_k d_k,
    out[1] = sum_k w_k d_k (1 - m_k), out[2] = sum of all rows.
    """
    block = np.empty((epochs, BLOCK))
    for begin in range(start, stop, BLOCK):
        width = min(BLOCK, stop - begin)
        load_block(line, step, epochs, begin, width, block)
        _slide_block(block, length, weights, width, out[:, begin : begin + width])


@kernel
def _slide_block(
    block: NDArray[np.float64], length: int, weights: NDArray[np.float64], width: int, out: NDArray[np.float64]
) -> None:
    """Write the sums of `_slide_chunk` for a block [T, BLOCK]. Inner loops run over samples, so they are vectorised."""
    spread, lean, total = np.zeros(width), np.zeros(width), np.zeros(width)
    mean, squares = np.empty(width), np.empty(width)
    for epoch in range(block.shape[0]):
        row = block[epoch]
        for i in range(width):
            total[i] += row[i]
    for k in range(weights.size):
        _mean_of_rows(block, k, length, mean)
        _squares_of_rows(block, k, length, mean, squares)
        weight = weights[k]
        for i in range(width):
            weighted = weight * np.sqrt(squares[i])
            spread[i] += weighted
            lean[i] += weighted * (1.0 - mean[i])
    out[0], out[1], out[2] = spread, lean, total


@kernel
def _mean_of_rows(block: NDArray[np.float64], k: int, length: int, mean: NDArray[np.float64]) -> None:
    """Write the mean of rows k..k+length-1. Adding three rows at a time halves the loads and stores of the sums."""
    mean[:] = 0.0
    triples = length - length % 3
    for epoch in range(k, k + triples, 3):
        one, two, three = block[epoch], block[epoch + 1], block[epoch + 2]
        for i in range(mean.size):
            mean[i] += one[i] + two[i] + three[i]
    for epoch in range(k + triples, k + length):
        one = block[epoch]
        for i in range(mean.size):
            mean[i] += one[i]
    for i in range(mean.size):
        mean[i] /= length


@kernel
def _squares_of_rows(
    block: NDArray[np.float64], k: int, length: int, mean: NDArray[np.float64], squares: NDArray[np.float64]
) -> None:
    """Write the sum of squared deviations of rows k..k+length-1 from `mean`."""
    squares[:] = 0.0
    triples = length - length % 3
    for epoch in range(k, k + triples, 3):
        one, two, three = block[epoch], block[epoch + 1], block[epoch + 2]
        for i in range(mean.size):
            squares[i] += (one[i] - mean[i]) ** 2 + (two[i] - mean[i]) ** 2 + (three[i] - mean[i]) ** 2
    for epoch in range(k + triples, k + length):
        one = block[epoch]
        for i in range(mean.size):
            squares[i] += (one[i] - mean[i]) ** 2
