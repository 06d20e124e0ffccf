"""Difficulty scores straight from logits: `fastdc.scores`. What the papers define, before anything is negated.

The methods of this folder compute the same scores from the observer's log; see `fastdc.kernels.scores` and
`fastdc.kernels.windows`. Importing this imports no numba.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdc.errors import MethodError
from fastdc.methods.trajectory import Trajectory, real_array
from fastdc.settings import closest

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """One difficulty score.

    Attributes:
        formula: in words and symbols, one line.
        hard: which end of it marks hard samples.
        source: paper.
        compute: the function; takes a trajectory and the constants.
        constants: keyword arguments of `fastdc.scores` with their published defaults.
        features: whether it also takes features.
    """

    formula: str
    hard: Literal["high", "low"]
    source: str
    compute: Callable[..., Scores]
    constants: Mapping[str, float] = field(default_factory=dict)
    features: bool = False


def scores(
    name: str, logits: ArrayLike, labels: ArrayLike, *, features: ArrayLike | None = None, **constants: float
) -> Scores:
    """The score `name` of every sample, as its paper defines it; `fastdc.methods.scoring.SCORES` lists formulas.

    Names: el2n, grand, forgetting, aum, aum_softmax, entropy, margin, least_confidence, tdds, dyn_unc, dual, cad_prune:
    the methods that rank by them. CCS has none of its own; its strata divide `aum`.
    Some are high for hard samples and some low (`SCORES[name].hard`); `fastdc.select` wants high = hard.

    Args:
        name: a key of `SCORES`.
        logits: [T, N, C], of T epochs in order; float32 or float64, C >= 2.
        labels: int [N], each in 0..C-1.
        features: [N, D], the input of the last linear layer at the last epoch; for `grand` alone.
        constants: `window` (dyn_unc, dual, tdds 10, cad_prune 6), `decay` (tdds .9), `last_windows`
            (cad_prune 2).

    Returns:
        float64 [N], computed in float64.

    Raises:
        MethodError: unknown name or constant; a shape, label, logit or feature that cannot be used (with sample and
            epoch, counted from 1); fewer epochs than a window needs.
    """
    if name not in SCORES:
        raise MethodError(f"unknown score '{name}'; {closest(name, SCORES)}")
    score = SCORES[name]
    unknown = sorted(set(constants) - set(score.constants))
    if unknown:
        raise MethodError(f"score {name}: unknown constant '{unknown[0]}'; {closest(unknown[0], score.constants)}")
    if score.features != (features is not None):
        raise MethodError(f"score {name}: {'needs' if score.features else 'takes no'} features=[N, D]")
    try:
        given: dict[str, Any] = {key: _like(default, key, constants) for key, default in score.constants.items()}
        if features is not None:
            given["features"] = features
        return score.compute(Trajectory.of(logits, labels), **given)
    except MethodError as error:
        raise MethodError(f"score {name}: {error}") from error


def _like(default: float, key: str, constants: Mapping[str, float]) -> float:
    """The constant `key` as given, or `default`; where the default is a whole number, so must the value be."""
    value: Any = constants.get(key, default)  # callers are not checked by a type checker
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, Real) or (whole and not float(value).is_integer()):
        raise MethodError(f"{key}={value}: expected a {'whole ' if whole else ''}number")
    number = float(value)
    return int(number) if whole else number


def el2n(trajectory: Trajectory) -> Scores:
    """EL2N: (1 / T) sum_t ||softmax(z_t) - onehot(y)||_2, mean over the T epochs given. High = hard.

    Paul et al. 2021, "Deep Learning on a Data Diet". 0 (sure and right) to sqrt(2) (sure and wrong).
    """
    return trajectory.mean("el2n")


def forgetting(trajectory: Trajectory) -> Scores:
    """Forgetting: number of t with sample correct at t - 1 and wrong at t. High = hard.

    Correct: z_y above every other logit; a tie is wrong. A sample that was never correct gets T, which no other can
    reach. Toneva et al. 2019.
    """
    from fastdc.kernels.scores import margin_scores

    return margin_scores(trajectory.series("margin"), 0, trajectory.epochs).forgetting


def aum(trajectory: Trajectory) -> Scores:
    """AUM, area under the margin: (1 / T) sum_t (z_y - max over j != y of z_j), on logits. LOW = hard.

    Pleiss et al. 2020.
    """
    return trajectory.mean("margin")


def aum_softmax(trajectory: Trajectory) -> Scores:
    """AUM on softmax: (1 / T) sum_t (p_y - max over j != y of p_j). LOW = hard.

    The variant of CCS's code (Zheng et al. 2023), which sums instead of averaging: T times this.
    """
    return trajectory.mean("p_y") - trajectory.mean("p_other")


def entropy(trajectory: Trajectory) -> Scores:
    """Entropy of the last epoch: -sum_c p_c ln p_c, in nats; p ln p = 0 at p = 0. High = hard.

    Coleman et al. 2020, "Selection via Proxy".
    """
    return trajectory.last("entropy")


def margin(trajectory: Trajectory) -> Scores:
    """Margin of the last epoch: largest minus second largest probability; 0 in a tie. LOW = hard.

    Coleman et al. 2020.
    """
    return trajectory.last("gap")


def least_confidence(trajectory: Trajectory) -> Scores:
    """Confidence of the last epoch: the largest probability, whatever the label. LOW = hard.

    Coleman et al. 2020.
    """
    return trajectory.last("p_max")


def tdds(trajectory: Trajectory, window: int, decay: float) -> Scores:
    """TDDS: sum over k = 0..T-J of decay * (1 - decay)^(T-J-k) * d_k, J = window = 10, decay = .9. High = hard.

    q_t = sum_c |p_{t+1,c} (ln p_{t+1,c} - ln p_{t,c})|; a window of the J epochs k..k+J-1 holds J - 1 of them; d_k is
    the Euclidean norm of their deviations from their mean. Logarithms come from log-softmax, without an epsilon.
    Zhang et al. 2024.
    """
    from fastdc.kernels.windows import tdds_scores

    return tdds_scores(trajectory.steps(), window, decay)


def dyn_unc(trajectory: Trajectory, window: int) -> Scores:
    """Dyn-Unc: mean over k = 0..T-J of 10 * std of p_y over epochs k..k+J-1, J = window = 10. High = hard.

    Unbiased standard deviation (J - 1). A probability of exactly 0 counts as 0. He et al. 2024; their code leaves out
    the window that ends with the last epoch, as DUAL's does not.
    """
    from fastdc.kernels.windows import window_scores

    return window_scores(trajectory.series("p_y"), window).dyn_unc


def dual(trajectory: Trajectory, window: int) -> Scores:
    """DUAL: mean over k = 0..T-J of 10 std(p_y) (1 - mean(p_y)) over epochs k..k+J-1, J = window = 10.

    High = hard. Unbiased standard deviation (J - 1). Cho et al. 2025.
    """
    from fastdc.kernels.windows import window_scores

    return window_scores(trajectory.series("p_y"), window).dual


def cad_prune(trajectory: Trajectory, window: int, last_windows: int) -> Scores:
    """CAD-Prune: mean over the last W windows of the std of p_y over J epochs; J = window = 6, W = last_windows = 2.

    High = hard. Unbiased standard deviation (J - 1); the last window ends with the last epoch. Dey et al. 2026.
    """
    from fastdc.kernels.windows import cad_scores

    return cad_scores(trajectory.series("p_y"), window, last_windows)


def grand(trajectory: Trajectory, features: ArrayLike) -> Scores:
    """GraNd of the last layer at the last epoch: ||d loss / d (W, b)||_2 = ||p - onehot(y)||_2 sqrt(||h||_2^2 + 1).

    h: the features. The gradient of cross entropy is the outer product of p - onehot(y) and (h, 1), so its norm is
    exact without forming it. High = hard. Paul et al. 2021, with the last layer alone as DeepCore does.
    """
    values = real_array("features", features)
    if values.ndim != 2 or values.shape[0] != trajectory.samples:
        raise MethodError(f"features {values.shape}: expected [{trajectory.samples}, D]")
    values = values.astype(np.float64)
    squares: Scores = np.einsum("nd,nd->n", values, values)
    bad = np.flatnonzero(~np.isfinite(squares))
    if bad.size:
        raise MethodError(
            f"features of sample {bad[0]}: their squares' sum is {squares[bad[0]]}, expected a finite one"
        )
    return trajectory.last("el2n") * np.sqrt(squares + 1.0)


SCORES: dict[str, Score] = {
    "el2n": Score("mean over epochs of ||softmax(z) - onehot(y)||_2", "high", "Paul et al. 2021", el2n),
    "forgetting": Score(
        "number of epochs where a correct sample turns wrong; T if it was never correct",
        "high",
        "Toneva et al. 2019",
        forgetting,
    ),
    "aum": Score("mean over epochs of z_y - max_{j!=y} z_j", "low", "Pleiss et al. 2020", aum),
    "aum_softmax": Score("mean over epochs of p_y - max_{j!=y} p_j", "low", "Zheng et al. 2023, code", aum_softmax),
    "entropy": Score("-sum_c p_c ln p_c at the last epoch, nats", "high", "Coleman et al. 2020", entropy),
    "margin": Score("largest - second largest p at the last epoch", "low", "Coleman et al. 2020", margin),
    "least_confidence": Score("largest p at the last epoch", "low", "Coleman et al. 2020", least_confidence),
    "tdds": Score(
        "sum_{k=0..T-J} decay (1-decay)^(T-J-k) ||q - mean(q)||_2 over the J-1 steps of window k, "
        "q_t = sum_c |p_{t+1,c} ln(p_{t+1,c} / p_{t,c})|; J = window",
        "high",
        "Zhang et al. 2024",
        tdds,
        {"window": 10, "decay": 0.9},
    ),
    "dyn_unc": Score(
        "mean over windows of J epochs of 10 std(p_y), unbiased; J = window",
        "high",
        "He et al. 2024",
        dyn_unc,
        {"window": 10},
    ),
    "dual": Score(
        "mean over windows of J epochs of 10 std(p_y) (1 - mean(p_y)), std unbiased; J = window",
        "high",
        "Cho et al. 2025",
        dual,
        {"window": 10},
    ),
    "cad_prune": Score(
        "mean over the last W windows of J epochs of std(p_y), unbiased; J = window, W = last_windows",
        "high",
        "Dey et al. 2026",
        cad_prune,
        {"window": 6, "last_windows": 2},
    ),
    "grand": Score(
        "||softmax(z) - onehot(y)||_2 sqrt(||h||_2^2 + 1) at the last epoch, h = features",
        "high",
        "Paul et al. 2021",
        grand,
        features=True,
    ),
}
"""Every score that `fastdc.scores` knows."""
