"""Per-sample training dynamics in one fused pass over a batch of logits.

A row's exponentials are computed in vectorised float32 by Cephes' polynomial for exp, accurate to 2 units in the last
place. Sums run in a fixed number of lanes, so that they do not depend on the width of a CPU's vectors. Each loop over
lanes takes four values per lane, because the compiled code checks for overlapping arrays at every such loop. Indices
are unsigned, which spares numba's check for negative ones.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.scores.fields import FIELDS, TERMS
from fastdc.kernels.scores.logit_terms import EL2N, ENTROPY, MARGIN, P_OTHER, P_Y, logit_terms

_LANES = 16
_BLOCK = 4 * _LANES
_SECOND, _THIRD, _FOURTH = np.uint64(_LANES), np.uint64(2 * _LANES), np.uint64(3 * _LANES)
_LOWEST = np.float32(-87.0)  # exp(-87) is near the smallest float32 that still has full precision
_LOG2_E = np.float32(1.44269504088896341)
# ln 2 in two parts: a whole number times the short high part is exact in float32.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_C0, _C1, _C2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_C3, _C4, _C5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_BIAS, _MANTISSA_BITS = np.int32(127), np.int32(23)
_WIDE = 40.0  # beyond it, squares of the other classes' float32 shares underflow
_TERMS = len(TERMS)
_P_Y, _P_OTHER, _MARGIN, _ENTROPY, _EL2N = range(len(FIELDS))  # rows of the log; those of `logit_terms` differ


@kernel
def _other_logits(logits: NDArray[np.float32], label: int, x: NDArray[np.float32], lanes: NDArray[np.float32]) -> float:
    """Copy a row [C] to `x` [n >= C], with -inf for the label and past the end; return the largest other logit."""
    num_classes = logits.size
    for j in range(num_classes):
        x[j] = logits[j]
    for j in range(np.uint64(num_classes), np.uint64(x.size)):
        x[j] = -np.inf
    x[label] = -np.inf
    for lane in range(_LANES):
        lanes[lane] = -np.inf
    for start in range(0, x.size, _BLOCK):
        for lane in range(_LANES):
            i = np.uint64(start + lane)
            a, b, c, d = x[i], x[i + _SECOND], x[i + _THIRD], x[i + _FOURTH]
            a = b if b > a else a
            c = d if d > c else c
            a = c if c > a else a
            lanes[lane] = a if a > lanes[lane] else lanes[lane]
    largest = lanes[0]
    for lane in range(1, _LANES):
        largest = max(largest, lanes[lane])
    return float(largest)


@kernel
def _exponentials(x: NDArray[np.float32], top: np.float32, values: NDArray[np.float32]) -> None:
    """Write max(x - top, -87) to `x` and its exponential to `values`, both float32 [n]; x - top must be <= 0."""
    for j in range(x.size):
        shifted = x[j] - top
        shifted = shifted if shifted > _LOWEST else _LOWEST
        power = np.int32(shifted * _LOG2_E - _HALF)  # rounds to nearest: int32() truncates towards 0, here upwards
        whole = np.float32(power)
        rest = shifted - whole * _LN2_HIGH
        rest = rest - whole * _LN2_LOW
        value = _C0 * rest + _C1
        value = value * rest + _C2
        value = value * rest + _C3
        value = value * rest + _C4
        value = value * rest + _C5
        x[j] = shifted
        factor = np.int32((power + _BIAS) << _MANTISSA_BITS).view(np.float32)  # 2.0 ** power, from its bits
        values[j] = (value * rest * rest + rest + _ONE) * factor


@kernel
def _sums(
    values: NDArray[np.float32], x: NDArray[np.float32], lanes: NDArray[np.float32]
) -> tuple[float, float, float]:
    """Return the sums of `values`, of their squares and of values * x; `lanes` float32 [3, 16] is scratch."""
    total, squares, weighted = lanes[0], lanes[1], lanes[2]
    for lane in range(_LANES):
        total[lane] = squares[lane] = weighted[lane] = _ZERO
    for start in range(0, x.size, _BLOCK):
        for lane in range(_LANES):
            i = np.uint64(start + lane)
            j, k, m = i + _SECOND, i + _THIRD, i + _FOURTH
            a, b, c, d = values[i], values[j], values[k], values[m]
            total[lane] = total[lane] + a + b + c + d
            squares[lane] = squares[lane] + a * a + b * b + c * c + d * d
            weighted[lane] = weighted[lane] + a * x[i] + b * x[j] + c * x[k] + d * x[m]
    sums = (0.0, 0.0, 0.0)
    for lane in range(_LANES):
        sums = (sums[0] + total[lane], sums[1] + squares[lane], sums[2] + weighted[lane])
    return sums


@kernel
def batch_dynamics(
    logits: NDArray[np.float32], labels: NDArray[np.int64], indices: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Write the dynamics of a batch into the rows of the epoch's log.

    With p = softmax(z) and label y, per sample: `p_y`; `p_other` = max over j != y of p_j; `margin` =
    z_y - max over j != y of z_j (AUM's term, Pleiss et al. 2020; positive exactly when the sample is classified
    correctly, a tie counts as wrong); `entropy` = -sum p ln p in nats; `el2n` = ||p - onehot(y)||_2 (Paul et al. 2021).

    Softmax is shifted by the largest logit, so no finite logit overflows. Probabilities below 1e-38 count as 1e-38.
    Errors are below 1e-6 absolute. Those of p_y, p_other and el2n are also below 1e-6 relative, down to 1e-38, the
    least that float32 holds in full. A sample that is correct by a margin above 40 is computed in float64.

    Args:
        logits: float32 [B, C], C >= 2, finite.
        labels: int64 [B], each in [0, C).
        indices: int64 [B], each sample's column in `out`.
        out: float32 [5, N], fields in the order of `fastdc.kernels.scores.fields.FIELDS`; only columns in `indices` are
            written.
    """
    num_classes = logits.shape[1]
    length = (num_classes + _BLOCK - 1) // _BLOCK * _BLOCK
    x, values, lanes = np.empty(length, np.float32), np.empty(length, np.float32), np.empty((3, _LANES), np.float32)
    exact = np.empty((_TERMS, 1))
    for row in range(logits.shape[0]):
        label, column = labels[row], indices[row]
        own = logits[row, label]
        other = np.float32(_other_logits(logits[row], label, x, lanes[0]))
        margin = np.float64(own) - np.float64(other)
        if margin > _WIDE:
            logit_terms(logits[row : row + 1], labels[row : row + 1], exact)
            out[_P_Y, column], out[_P_OTHER, column] = exact[P_Y, 0], exact[P_OTHER, 0]
            out[_MARGIN, column], out[_ENTROPY, column] = exact[MARGIN, 0], exact[ENTROPY, 0]
            out[_EL2N, column] = exact[EL2N, 0]
            continue
        top = max(own, other)
        _exponentials(x, top, values)
        # The label's x is the clamp -87, not its own logit; its exponential is added in float64 below.
        values[label] = _ZERO
        values[num_classes:] = _ZERO
        rest, squares, weighted = _sums(values, x, lanes)  # rest / total is 1 - p_y without cancellation
        shift = np.float64(own) - np.float64(top)
        exponential = math.exp(shift)
        total = rest + exponential
        out[_P_Y, column] = exponential / total
        out[_P_OTHER, column] = math.exp(np.float64(other) - np.float64(top)) / total
        out[_MARGIN, column] = margin
        out[_ENTROPY, column] = math.log(total) - (weighted + exponential * shift) / total
        out[_EL2N, column] = math.sqrt(squares + rest * rest) / total


@kernel
def batch_final(
    logits: NDArray[np.float32],
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    indices: NDArray[np.int64],
    out: NDArray[np.float32],
    exact: NDArray[np.float32],
) -> None:
    """Write the final pass's fields of a batch into the rows of its record: `logit_terms`, rounded to float32.

    It adds `feature_norm` = ||h||_2 of the penultimate features h.

    Args:
        logits: float32 [B, C], C >= 2, finite.
        features: float32 [B, D], finite.
        labels, indices: int64 [B], see `batch_dynamics`.
        out: float32 [8, N], fields in the order of `FINAL_FIELDS` (`fastdc.kernels.scores.fields`); only columns in
            `indices` are written.
        exact: float32 [2, N], likewise for `EXACT_FIELDS`.
    """
    terms = np.empty((_TERMS, logits.shape[0]))
    logit_terms(logits, labels, terms)
    first_exact = _TERMS - exact.shape[0]
    for row in range(logits.shape[0]):
        column = indices[row]
        for term in range(first_exact):
            out[term, column] = terms[term, row]
        for term in range(exact.shape[0]):
            exact[term, column] = terms[first_exact + term, row]
        squares = 0.0
        for j in range(features.shape[1]):
            squares += np.float64(features[row, j]) ** 2
        out[first_exact, column] = math.sqrt(squares)
