"""The difficulty scores, one function each: what a method ranks by and what `fastdc.scores` gives are the same code.

Every function takes one training as it was seen, either the observer's log (`fastdc.methods.scored.Log`) or logits
(`fastdc.methods.trajectory.Trajectory`), and returns float64 [N], high = hard. Importing this imports no numba.

The log holds float32, so a score read from it differs from that of its own float32 logits by at most:

- forgetting: nothing. aum: 1e-7 of its mean |margin|. el2n: 2e-6 of itself, down to 1e-38.
- entropy, margin, least_confidence, grand: 3e-7 of itself, down to 1e-38.
- aum_softmax: 2e-6; 1e-7 among samples that are always sure, which tie below that.
- cad_prune, cad_prune_el2n: 2e-6. dyn_unc, dual: 2e-5.
- tdds: sqrt(window - 1) 2^-11 of the largest -ln p of the sample, because the observer keeps the epoch before as
  float16 log-probabilities, by design.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


class Seen(Protocol):
    """One training of T epochs on N samples, as scores read it."""

    def series(self, name: str) -> NDArray[np.floating[Any]]:
        """Return a field of `fastdc.kernels.fields.FIELDS` at every epoch, [T, N]."""

    def last(self, name: str) -> Scores:
        """Return a field of `FINAL_FIELDS` or `EXACT_FIELDS` after the last epoch, float64 [N]."""

    def steps(self) -> NDArray[np.floating[Any]]:
        """Return TDDS's distance between consecutive epochs, [T - 1, N]; see `fastdc.kernels.logits`."""


def el2n(seen: Seen) -> Scores:
    """EL2N: (1 / T) sum_t ||softmax(z_t) - onehot(y)||_2. Published: high = hard, the same.

    Paul et al. 2021, "Deep Learning on a Data Diet". 0 (sure and right) to sqrt(2) (sure and wrong).
    """
    return _mean(seen, "el2n")


def forgetting(seen: Seen) -> Scores:
    """Forgetting: number of t with sample correct at t - 1 and wrong at t. Published: high = hard, the same.

    Correct: z_y above every other logit; a tie is wrong. A sample that was never correct gets T, which no other can
    reach. Toneva et al. 2019.
    """
    from fastdc.kernels.scores import forgetting_events  # numba takes half a second; listing methods must not pay it

    margins = seen.series("margin")
    return forgetting_events(margins, 0, margins.shape[0])


def aum(seen: Seen) -> Scores:
    """AUM, area under the margin, negated: -(1 / T) sum_t (z_y - max over j != y of z_j), on logits.

    Published: LOW = hard, without the minus. Pleiss et al. 2020.
    """
    return -_mean(seen, "margin")


def aum_softmax(seen: Seen) -> Scores:
    """AUM on softmax, negated: -(1 / T) sum_t (p_y - max over j != y of p_j).

    Published: LOW = hard, without the minus. The variant of CCS's code (Zheng et al. 2023), which sums instead of
    averaging: T times this.
    """
    return _mean(seen, "p_other") - _mean(seen, "p_y")


def entropy(seen: Seen) -> Scores:
    """Entropy of the last epoch: -sum_c p_c ln p_c, in nats; p ln p = 0 at p = 0. Published: high = hard, the same.

    Coleman et al. 2020, "Selection via Proxy".
    """
    return seen.last("entropy")


def margin(seen: Seen) -> Scores:
    """Margin of the last epoch: one minus (largest minus second largest probability); 1 in a tie.

    Published: LOW = hard, the difference itself. Its negative would lose the digits of a difference near 1.
    Coleman et al. 2020.
    """
    return _one_minus(seen.last("gap"), seen.last("p_rest") + seen.last("p_second"))


def least_confidence(seen: Seen) -> Scores:
    """Least confidence of the last epoch: one minus the largest probability, whatever the label.

    Published: LOW = hard, the largest probability. Its negative would lose the digits of a probability near 1.
    Coleman et al. 2020.
    """
    return _one_minus(seen.last("p_max"), seen.last("p_rest"))


def tdds(seen: Seen, window: int, decay: float) -> Scores:
    """TDDS: sum over k = 0..T-J of decay * (1 - decay)^(T-J-k) * d_k, J = window = 10, decay = .9.

    q_t = sum_c |p_{t+1,c} (ln p_{t+1,c} - ln p_{t,c})|; a window of the J epochs k..k+J-1 holds J - 1 of them; d_k is
    the Euclidean norm of their deviations from their mean. Logarithms come from log-softmax, without an epsilon.
    Published: high = hard, the same. Zhang et al. 2024.
    """
    from fastdc.kernels.windows import tdds_scores

    return tdds_scores(seen.steps(), window, decay)


def dyn_unc(seen: Seen, window: int) -> Scores:
    """Dyn-Unc: mean over k = 0..T-J of 10 * std of p_y over epochs k..k+J-1, J = window = 10.

    Unbiased standard deviation (J - 1). A probability of exactly 0 counts as 0. Published: high = hard, the same. He et
    al. 2024; their code leaves out the window that ends with the last epoch, as DUAL's does not.
    """
    from fastdc.kernels.windows import window_scores

    return window_scores(seen.series("p_y"), window).dyn_unc


def dual(seen: Seen, window: int) -> Scores:
    """DUAL: mean over k = 0..T-J of 10 std(p_y) (1 - mean(p_y)) over epochs k..k+J-1, J = window = 10.

    Unbiased standard deviation (J - 1). Published: high = hard, the same. Cho et al. 2025.
    """
    from fastdc.kernels.windows import window_scores

    return window_scores(seen.series("p_y"), window).dual


def cad_prune(seen: Seen, window: int, last_windows: int) -> Scores:
    """CAD-Prune: mean over the last W windows of the std of p_y over J epochs; J = window = 6, W = last_windows = 2.

    Unbiased standard deviation (J - 1); the last window ends with the last epoch. Published: high = hard, the same.
    Dey et al. 2026.
    """
    from fastdc.kernels.windows import cad_scores

    return cad_scores(seen.series("p_y"), window, last_windows)


def cad_prune_el2n(seen: Seen, window: int, last_windows: int) -> Scores:
    """CAD-Prune on EL2N: the same with ||p - onehot(y)||_2 for p_y; J = window = 6, W = last_windows = 2.

    The window that ends with the last epoch is left out, as in Dyn-Unc's code. Published: high = hard, the same. The
    reading of andriotis/ca2d, which is not the authors'.
    """
    from fastdc.kernels.windows import cad_scores

    return cad_scores(seen.series("el2n"), window, last_windows, omit_last=True)


def grand(seen: Seen) -> Scores:
    """GraNd of the last layer at the last epoch: ||d loss / d (W, b)||_2 = ||p - onehot(y)||_2 sqrt(||h||_2^2 + 1).

    h: the features. The gradient of cross entropy is the outer product of p - onehot(y) and (h, 1), so its norm is
    exact without forming it. Published: high = hard, the same. Paul et al. 2021, with the last layer alone as DeepCore
    does.
    """
    return seen.last("el2n") * np.sqrt(seen.last("feature_norm") ** 2 + 1.0)


def _mean(seen: Seen, name: str) -> Scores:
    from fastdc.kernels.scores import mean_over_epochs

    series = seen.series(name)
    return mean_over_epochs(series, 0, series.shape[0])


def _one_minus(values: Scores, rest: Scores) -> Scores:
    """Return 1 - values with the digits of the smaller of the two; `rest` is 1 - values as it was kept."""
    return np.where(values < 0.5, 1.0 - values, rest)
