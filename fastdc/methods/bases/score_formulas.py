"""Difficulty scores, one function each; the methods and `fastdc.scores` share this code.

Every function takes the record of one training, either the observer's log (`score_methods.Log`) or logits
(`logit_trajectory.Trajectory`). It returns float64 [N], high = hard. Importing this module does not import numba.

The log holds float32. A score read from it differs from the score of the same float32 logits by at most:

- forgetting: nothing. aum: 1e-7 of its mean |margin|. el2n: 2e-6 of itself, down to 1e-38.
- entropy, margin, least_confidence, grand: 3e-7 of itself, down to 1e-38.
- aum_softmax: 2e-6; 1e-7 among samples that are always confident, which tie below that.
- cad_prune, cad_prune_el2n: 2e-6. dyn_unc, dual: 2e-5.
- tdds: sqrt(window - 1) 2^-11 of the largest -ln p of the sample. The observer deliberately keeps the previous epoch
  as float16 log-probabilities.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


class Seen(Protocol):
    """Record of one training of T epochs on N samples, as scores read it."""

    def series(self, name: str) -> NDArray[np.floating[Any]]:
        """Return a field of `fastdc.kernels.scores.fields.FIELDS` at every epoch, [T, N]."""

    def last(self, name: str) -> Scores:
        """Return a field of `FINAL_FIELDS` or `EXACT_FIELDS` after the last epoch, float64 [N]."""

    def steps(self) -> NDArray[np.floating[Any]]:
        """Return TDDS's distance between consecutive epochs, [T - 1, N]; see `fastdc.kernels.scores.logit_terms`."""


def el2n(seen: Seen) -> Scores:
    """Return EL2N: (1 / T) sum_t ||softmax(z_t) - onehot(y)||_2.

    The range is 0 (confident and right) to sqrt(2) (confident and wrong). Paul et al. 2021, "Deep Learning on a Data
    Diet". Published: high = hard, the same.
    """
    return _mean(seen, "el2n")


def forgetting(seen: Seen) -> Scores:
    """Return forgetting events: the number of t with the sample correct at t - 1 and wrong at t.

    Correct means z_y above every other logit; a tie is wrong. A sample that was never correct gets T, which no other
    sample can reach. Toneva et al. 2019. Published: high = hard, the same.
    """
    # Imported here because numba takes half a second to import, which would slow every listing of methods.
    from fastdc.kernels.scores.epochs import forgetting_events

    margins = seen.series("margin")
    return forgetting_events(margins, 0, margins.shape[0])


def aum(seen: Seen) -> Scores:
    """Return the negated area under the margin (AUM) of logits: -(1 / T) sum_t (z_y - max over j != y of z_j).

    Published: LOW = hard, without the minus. Pleiss et al. 2020.
    """
    return -_mean(seen, "margin")


def aum_softmax(seen: Seen) -> Scores:
    """Return the negated area under the margin of probabilities: -(1 / T) sum_t (p_y - max over j != y of p_j).

    Published: LOW = hard, without the minus. This is the variant of CCS's code (Zheng et al. 2023), which sums instead
    of averaging: T times this.
    """
    return _mean(seen, "p_other") - _mean(seen, "p_y")


def entropy(seen: Seen) -> Scores:
    """Return the entropy at the last epoch: -sum_c p_c ln p_c in nats, with p ln p = 0 at p = 0.

    Coleman et al. 2020, "Selection via Proxy". Published: high = hard, the same.
    """
    return seen.last("entropy")


def margin(seen: Seen) -> Scores:
    """Return one minus the margin at the last epoch, the largest minus the second largest probability; 1 in a tie.

    Published: LOW = hard, the difference itself. Its negative would lose the digits of a difference near 1.
    Coleman et al. 2020.
    """
    # 1 - (p_max - p_second) = p_rest + p_second, a sum of small numbers when the gap is near 1.
    return _one_minus(seen.last("gap"), seen.last("p_rest") + seen.last("p_second"))


def least_confidence(seen: Seen) -> Scores:
    """Return least confidence at the last epoch: one minus the largest probability, whatever the label.

    Published: LOW = hard, the largest probability. Its negative would lose the digits of a probability near 1.
    Coleman et al. 2020.
    """
    return _one_minus(seen.last("p_max"), seen.last("p_rest"))


def tdds(seen: Seen, window: int, decay: float) -> Scores:
    """Return TDDS: sum over k = 0..T-J of decay * (1 - decay)^(T-J-k) * d_k.

    The published constants are J = window = 10 and decay = .9. q_t = sum_c |p_{t+1,c} (ln p_{t+1,c} - ln p_{t,c})|. The
    window of epochs k..k+J-1 holds J - 1 of these, and d_k is the Euclidean norm of their deviations from their mean.
    Logarithms come from log-softmax, without an epsilon. Zhang et al. 2024. Published: high = hard, the same.
    """
    from fastdc.kernels.scores.windows import tdds_scores

    return tdds_scores(seen.steps(), window, decay)


def dyn_unc(seen: Seen, window: int) -> Scores:
    """Return Dyn-Unc: mean over k = 0..T-J of 10 * std of p_y over epochs k..k+J-1.

    The published constant is J = window = 10. The standard deviation is unbiased (J - 1). A probability of exactly 0
    counts as 0. Published: high = hard, the same. He et al. 2024; their code leaves out the window that ends with the
    last epoch, DUAL's code does not.
    """
    from fastdc.kernels.scores.windows import window_scores

    return window_scores(seen.series("p_y"), window).dyn_unc


def dual(seen: Seen, window: int) -> Scores:
    """Return DUAL: mean over k = 0..T-J of 10 std(p_y) (1 - mean(p_y)) over epochs k..k+J-1.

    The published constant is J = window = 10. The standard deviation is unbiased (J - 1). Cho et al. 2025.
    Published: high = hard, the same.
    """
    from fastdc.kernels.scores.windows import window_scores

    return window_scores(seen.series("p_y"), window).dual


def cad_prune(seen: Seen, window: int, last_windows: int) -> Scores:
    """Return CAD-Prune: mean over the last W windows of the std of p_y over J epochs.

    The published constants are J = window = 6 and W = last_windows = 2. The standard deviation is unbiased (J - 1). The
    last window ends with the last epoch. Dey et al. 2026. Published: high = hard, the same.
    """
    from fastdc.kernels.scores.windows import cad_scores

    return cad_scores(seen.series("p_y"), window, last_windows)


def cad_prune_el2n(seen: Seen, window: int, last_windows: int) -> Scores:
    """Return CAD-Prune on EL2N: as `cad_prune`, with ||p - onehot(y)||_2 in place of p_y.

    The constants are J = window = 6 and W = last_windows = 2. The window that ends with the last epoch is left out, as
    in Dyn-Unc's code. This is the reading of andriotis/ca2d, which is not the authors' code.
    Published: high = hard, the same.
    """
    from fastdc.kernels.scores.windows import cad_scores

    return cad_scores(seen.series("el2n"), window, last_windows, omit_last=True)


def grand(seen: Seen) -> Scores:
    """Return GraNd of the last layer at the last epoch: ||p - onehot(y)||_2 sqrt(||h||_2^2 + 1), h the features.

    This equals ||d loss / d (W, b)||_2. The gradient of cross entropy is the outer product of p - onehot(y) and (h, 1),
    so its norm is exact without forming it. Paul et al. 2021, restricted to the last layer as in DeepCore.
    Published: high = hard, the same.
    """
    return seen.last("el2n") * np.sqrt(seen.last("feature_norm") ** 2 + 1.0)  # 1 is the input of the bias


Difficulty = Literal["aum", "aum_softmax", "el2n", "forgetting"]
DIFFICULTIES: dict[Difficulty, Callable[[Seen], Scores]] = {
    "aum": aum,
    "aum_softmax": aum_softmax,
    "el2n": el2n,
    "forgetting": forgetting,
}
"""Scores of the log of all epochs that other methods build on."""


def _mean(seen: Seen, name: str) -> Scores:
    from fastdc.kernels.scores.epochs import mean_over_epochs

    series = seen.series(name)
    return mean_over_epochs(series, 0, series.shape[0])


def _one_minus(values: Scores, rest: Scores) -> Scores:
    """Return 1 - values without cancellation; `rest` is 1 - values, stored separately in full precision."""
    return np.where(values < 0.5, 1.0 - values, rest)
