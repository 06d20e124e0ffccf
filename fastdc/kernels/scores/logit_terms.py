"""Per-sample terms of logits in float64, for `fastdc.scores`, the final pass and the log's widest margins."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel

P_Y, P_OTHER, P_MAX, P_SECOND, MARGIN, ENTROPY, EL2N, P_REST, GAP = range(9)
"""Rows of `logit_terms`, in the order of `fastdc.kernels.scores.fields.TERMS`."""
LARGEST_LOGIT = 1e150
"""Larger logits are refused: TDDS squares differences of two logits, and no square may overflow."""


@kernel
def first_unusable(logits: NDArray[Any]) -> int:
    """Return the first sample of `logits` [N, C] with a NaN, an infinity or a value beyond `LARGEST_LOGIT`, or -1."""
    for i in range(logits.shape[0]):
        for j in range(logits.shape[1]):
            # Negated, so that NaN, which fails every comparison, counts as unusable.
            if not abs(np.float64(logits[i, j])) <= LARGEST_LOGIT:
                return i
    return -1


@kernel
def logit_terms(logits: NDArray[Any], labels: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Write the terms of every sample into `out`.

    With p = softmax(z) and label y: `p_y`; `p_other` = max over j != y of p_j; `p_max` and `p_second`, the two largest
    probabilities (equal in a tie); `margin` = z_y - max over j != y of z_j; `entropy` = -sum p ln p in nats; `el2n` =
    ||p - onehot(y)||_2; `p_rest` = 1 - p_max; `gap` = p_max - p_second. No term loses digits to cancellation when one
    class takes nearly all the probability. `el2n` keeps its digits down to 1e-150, where its squares underflow.

    Args:
        logits: float32 or float64 [N, C], C >= 2, usable (`first_unusable`).
        labels: int64 [N], each in [0, C).
        out: float64 [9, N], rows in the order of `fastdc.kernels.scores.fields.TERMS`.
    """
    for i in range(logits.shape[0]):
        row, label = logits[i], labels[i]
        first, second, winner = -np.inf, -np.inf, 0
        other = -np.inf
        for j in range(row.size):
            value = np.float64(row[j])
            if value > first:
                first, second, winner = value, first, j
            elif value > second:
                second = value
            if j != label and value > other:
                other = value
        own = np.float64(row[label])
        # With e_j = exp(z_j - first): rest sums e_j over j != winner, others and squares sum e_j and e_j ** 2 over
        # j != label, and below sums e_j (first - z_j).
        rest, others, squares, below = 0.0, 0.0, 0.0, 0.0
        for j in range(row.size):
            below_first = first - np.float64(row[j])
            share = math.exp(-below_first)
            below += share * below_first
            if j != winner:
                rest += share
            if j != label:
                others += share
                squares += share * share
        total = 1.0 + rest
        out[P_Y, i] = math.exp(own - first) / total
        out[P_OTHER, i] = math.exp(other - first) / total
        out[P_MAX, i] = 1.0 / total
        out[P_SECOND, i] = math.exp(second - first) / total
        out[MARGIN, i] = own - other
        out[ENTROPY, i] = math.log1p(rest) + below / total
        out[EL2N, i] = math.sqrt(squares + others * others) / total
        out[P_REST, i] = rest / total
        out[GAP, i] = -math.expm1(second - first) / total


@kernel
def log_normalisers(logits: NDArray[Any], out: NDArray[np.float64]) -> None:
    """Write out[0] = largest logit and out[1] = ln sum_j exp(z_j - largest) of each sample; out is float64 [2, N].

    ln p_j = (z_j - out[0]) - out[1]. The two are kept apart so that large logits cost no digits.
    """
    for i in range(logits.shape[0]):
        row = logits[i]
        top = np.float64(row[0])
        for j in range(row.size):
            top = max(top, np.float64(row[j]))
        total = 0.0
        for j in range(row.size):
            total += math.exp(np.float64(row[j]) - top)
        out[0, i], out[1, i] = top, math.log(total)


@kernel
def tdds_distances(
    before: NDArray[Any],
    after: NDArray[Any],
    before_norms: NDArray[np.float64],
    after_norms: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write TDDS's step between consecutive epochs: out[i] = sum_c |p'_c (ln p'_c - ln p_c)|, p' after, p before.

    A p'_c that underflows to 0 adds 0, the limit of p ln p. Logarithms are computed from the logits, so none is ln 0.

    Args:
        before, after: logits [N, C].
        before_norms, after_norms: their `log_normalisers`.
        out: float64 [N].
    """
    for i in range(after.shape[0]):
        total = 0.0
        for j in range(after.shape[1]):
            log_after = (np.float64(after[i, j]) - after_norms[0, i]) - after_norms[1, i]
            log_before = (np.float64(before[i, j]) - before_norms[0, i]) - before_norms[1, i]
            total += abs(math.exp(log_after) * (log_after - log_before))
        out[i] = total
