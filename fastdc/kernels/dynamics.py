"""Per-sample training dynamics: one fused pass over a batch of logits."""

import math

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.jit import kernel


@kernel
def batch_dynamics(
    logits: NDArray[np.float32], labels: NDArray[np.int64], indices: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Write the dynamics of a batch into the rows of the epoch's log.

    With p = softmax(z) and label y, per sample: `p_y`; `p_other` = max over j != y of p_j; `margin` =
    z_y - max over j != y of z_j (AUM's term, Pleiss et al. 2020; positive exactly when the sample is classified
    correctly, a tie counts as wrong); `entropy` = -sum p ln p in nats; `el2n` = ||p - onehot(y)||_2 (Paul et al. 2021).
    Sums run in float64. Softmax is shifted by the largest logit, so no finite logit overflows.

    Args:
        logits: float32 [B, C], C >= 2, finite.
        labels: int64 [B], each in [0, C).
        indices: int64 [B], each sample's column in `out`.
        out: float32 [5, N], fields in the order of `fastdc.kernels.fields.FIELDS`; only columns in `indices` are
            written.
    """
    num_classes = logits.shape[1]
    for row in range(logits.shape[0]):
        label = labels[row]
        own = np.float64(logits[row, label])
        other = -np.inf
        for j in range(num_classes):
            if j != label and logits[row, j] > other:
                other = np.float64(logits[row, j])
        top = max(own, other)
        total = 0.0
        weighted = 0.0
        squares = 0.0
        rest = 0.0  # 1 - p_y without cancellation, for samples that are nearly certain
        for j in range(num_classes):
            shifted = np.float64(logits[row, j]) - top
            exponential = math.exp(shifted)
            total += exponential
            weighted += exponential * shifted
            if j != label:
                squares += exponential * exponential
                rest += exponential
        column = indices[row]
        out[0, column] = math.exp(own - top) / total
        out[1, column] = math.exp(other - top) / total
        out[2, column] = own - other
        out[3, column] = math.log(total) - weighted / total
        out[4, column] = math.sqrt(squares + rest * rest) / total
