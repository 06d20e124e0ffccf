"""Scores from the dynamics log: aggregation over epochs, one pass over the bytes."""

import numpy as np
from numpy.typing import NDArray

from fastdc.errors import MethodError
from fastdc.kernels.jit import kernel


def mean_over_epochs(values: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float64]:
    """Mean of one field over the epochs start..stop-1 (counted from 0).

    Args:
        values: float32 [T, N], one field of the log; may be memory-mapped, and need not be contiguous.

    Returns:
        float64 [N], summed in float64.

    Raises:
        MethodError: the window is empty or reaches past the log, or a value in it is not finite.
    """
    if not 0 <= start < stop <= values.shape[0]:
        raise MethodError(f"epochs {start + 1} to {stop} asked for, the log holds 1 to {values.shape[0]}")
    total = np.zeros(values.shape[1])
    for epoch in range(start, stop):
        bad = add_finite(values[epoch], total)
        if bad >= 0:
            raise MethodError(f"dynamics log: epoch {epoch + 1}, sample {bad} is not finite; observe again")
    return total / (stop - start)


@kernel
def add_finite(values: NDArray[np.float32], total: NDArray[np.float64]) -> int:
    """Add `values` [N] to `total` [N]; the first index that is not finite, or -1."""
    for i in range(values.size):
        if not np.isfinite(values[i]):
            return i
        total[i] += values[i]
    return -1
