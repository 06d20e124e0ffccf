"""Weighted sampling without replacement, and DUAL's weights, as pure functions."""

import numpy as np
from numpy.typing import NDArray

TOTAL = 16.0
"""a + b of DUAL's Beta distribution; b is at most one less."""

ANCHORS = 10
"""Number of highest-scoring samples whose mean probability anchors DUAL's Beta distribution."""


def beta_log_weights(
    scores: NDArray[np.float64], mean_p: NDArray[np.float64], pruning_rate: float, exponent: float
) -> NDArray[np.float64]:
    """Return the logarithm of DUAL's sampling weights s_i * BetaPDF(m_i; a, b), up to a constant (Cho et al. 2025).

    b = 15 (1 - m_anchor) (1 - rate^exponent), a = 16 - b; m_anchor = mean m of the 10 highest scores (ties to the lower
    index). At high pruning rates b is small, and the weight moves to easy samples, m near 1. Weights are logarithms,
    because a density with exponents up to 15 exceeds the range of floats.

    Args:
        scores: s, [N], at least 0.
        mean_p: m, [N], mean probability of the label, 0..1.
        pruning_rate: share of the samples that is not kept, 0..1.
        exponent: c in rate^c, the exponent above.

    Returns:
        float64 [N]; -inf where the weight is 0.
    """
    anchors = np.argsort(-scores, kind="stable")[:ANCHORS]
    b = (TOTAL - 1) * (1 - mean_p[anchors].mean()) * (1 - pruning_rate**exponent)
    a = TOTAL - b
    tiny = np.finfo(np.float64).tiny  # keeps ln finite at m = 0 and m = 1, where 0 * -inf would give NaN
    below, above = np.maximum(mean_p, tiny), np.maximum(1 - mean_p, tiny)
    with np.errstate(divide="ignore"):  # ln 0 = -inf is the weight of a score of 0
        weights: NDArray[np.float64] = np.log(scores) + (a - 1) * np.log(below) + (b - 1) * np.log(above)
    return weights


def draw_order(log_weights: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return priorities whose descending order is a weighted draw without replacement.

    Sorting log-weights plus Gumbel noise is equivalent to drawing samples one by one in proportion to the remaining
    weights (Efraimidis and Spirakis 2006). Samples of weight 0 come last, in uniformly random order.

    Args:
        log_weights: [N]; -inf means weight 0.
        seed: already derived for this purpose.

    Returns:
        float64 [N], a permutation of 1..N; the first sample drawn has N.
    """
    noise = np.random.Generator(np.random.PCG64(seed)).gumbel(size=log_weights.size)
    possible = np.isfinite(log_weights)
    keys = np.where(possible, log_weights, 0.0) + noise  # samples of weight 0 are ordered by noise alone
    order = np.lexsort((-keys, ~possible))  # lexsort's last key is the primary one
    priorities = np.empty(log_weights.size)
    priorities[order] = np.arange(log_weights.size, 0, -1)
    return priorities
