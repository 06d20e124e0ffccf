"""Difficulty scores from logits: `fastdc.scores`. Importing this module does not import numba.

The methods of this folder compute the same scores from the observer's log, with the same functions
(`fastdc.methods.bases.score_formulas`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from fastdc.common.errors import MethodError
from fastdc.common.settings import closest
from fastdc.methods.bases import score_formulas
from fastdc.methods.bases.score_formulas import Scores, Seen
from fastdc.methods.logit_trajectory import CHUNK, Trajectory

Sign = Literal["hard", "published"]


@dataclass(frozen=True)
class Score:
    """Description of one difficulty score.

    Attributes:
        formula: the published score, in words and symbols, on one line.
        hard: end of the published score that marks hard samples.
        source: the paper.
        compute: function that returns the score with high = hard from a `Seen` and the constants.
        published: function that returns the score with the paper's sign; None if that is `compute`.
        constants: keyword arguments of `fastdc.scores`, with their published defaults.
        features: whether the score also needs features.
    """

    formula: str
    hard: Literal["high", "low"]
    source: str
    compute: Callable[..., Scores]
    published: Callable[[Seen], Scores] | None = None
    constants: Mapping[str, float] = field(default_factory=dict)
    features: bool = False


def scores(
    name: str,
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    sign: Sign = "hard",
    features: ArrayLike | None = None,
    **constants: float,
) -> Scores:
    """Return the score `name` of every sample, high = hard, as `fastdc.select` takes it.

    The names are those of the methods that rank by the scores: el2n, grand, forgetting, aum, entropy, margin,
    least_confidence, tdds, dyn_unc, dual and cad_prune. The variants aum_softmax and cad_prune_el2n are settings of
    such methods. CCS has no score of its own; its strata divide `aum`. `SCORES` lists the published
    formulas. Four of them are low for hard samples. aum and aum_softmax are therefore negated; margin and
    least_confidence are one minus the published score.

    Args:
        name: a key of `SCORES`.
        logits: [T, N, C], of T epochs in order; any real type, C >= 2.
        labels: int [N], each in 0..C-1.
        sign: `hard` gives high = hard for every score; `published` gives the paper's formula.
        features: [N, D], the input of the last linear layer at the last epoch; only for `grand`.
        constants: `window` (default 10 for dyn_unc, dual and tdds, 6 for cad_prune and cad_prune_el2n), `decay` (.9 for
            tdds), `last_windows` (2 for cad_prune and cad_prune_el2n).

    Returns:
        float64 [N], computed in float64. The observer's log keeps float32; `bases.score_formulas` gives bounds.

    Raises:
        MethodError: a name, sign or constant is unknown; a shape, label, logit or feature cannot be used (the message
            gives the sample, and the epoch counted from 1); or there are fewer epochs than a window needs.
    """
    if name not in SCORES:
        raise MethodError(f"unknown score '{name}'; {closest(name, SCORES)}")
    if sign not in get_args(Sign):
        raise MethodError(f"score {name}: sign={sign!r}; expected 'hard' or 'published'")
    score = SCORES[name]
    unknown = sorted(set(constants) - set(score.constants))
    if unknown:
        raise MethodError(f"score {name}: unknown constant '{unknown[0]}'; {closest(unknown[0], score.constants)}")
    if score.features != (features is not None):
        raise MethodError(f"score {name}: {'needs' if score.features else 'takes no'} features=[N, D]")
    compute = score.compute if sign == "hard" else score.published or score.compute
    try:
        given: dict[str, Any] = {key: _like(default, key, constants) for key, default in score.constants.items()}
        return _of_all(Trajectory.of(logits, labels, features), lambda part: compute(part, **given))
    except MethodError as error:
        raise MethodError(f"score {name}: {error}") from error


def _of_all(trajectory: Trajectory, compute: Callable[[Seen], Scores]) -> Scores:
    """Score all samples in chunks, so that memory beside the logits is O(N)."""
    # Imported here because numba takes half a second to import.
    from fastdc.kernels.scores.chunks import over_samples

    out = np.empty(trajectory.samples)

    def work(start: int, stop: int) -> None:
        out[start:stop] = compute(trajectory.part(start, stop))

    over_samples(work, trajectory.samples, chunk=CHUNK)
    return out


def _like(default: float, key: str, constants: Mapping[str, float]) -> float:
    """Return the constant `key` as given, or `default`. A whole-number default requires a whole number."""
    value: Any = constants.get(key, default)  # Any, because callers may not use a type checker
    whole = isinstance(default, int)
    # bool is a Real in Python, but True is no sensible constant.
    if isinstance(value, bool) or not isinstance(value, Real) or (whole and not float(value).is_integer()):
        raise MethodError(f"{key}={value}: expected a {'whole ' if whole else ''}number")
    number = float(value)
    return int(number) if whole else number


SCORES: dict[str, Score] = {
    "el2n": Score("mean over epochs of ||softmax(z) - onehot(y)||_2", "high", "Paul et al. 2021", score_formulas.el2n),
    "forgetting": Score(
        "number of epochs where a correct sample turns wrong; T if it was never correct",
        "high",
        "Toneva et al. 2019",
        score_formulas.forgetting,
    ),
    "aum": Score(
        "mean over epochs of z_y - max_{j!=y} z_j",
        "low",
        "Pleiss et al. 2020",
        score_formulas.aum,
        lambda seen: -score_formulas.aum(seen),
    ),
    "aum_softmax": Score(
        "mean over epochs of p_y - max_{j!=y} p_j",
        "low",
        "Zheng et al. 2023, code",
        score_formulas.aum_softmax,
        lambda seen: -score_formulas.aum_softmax(seen),
    ),
    "entropy": Score(
        "-sum_c p_c ln p_c at the last epoch, nats", "high", "Coleman et al. 2020", score_formulas.entropy
    ),
    "margin": Score(
        "largest - second largest p at the last epoch",
        "low",
        "Coleman et al. 2020",
        score_formulas.margin,
        lambda seen: seen.last("gap"),
    ),
    "least_confidence": Score(
        "largest p at the last epoch",
        "low",
        "Coleman et al. 2020",
        score_formulas.least_confidence,
        lambda seen: seen.last("p_max"),
    ),
    "tdds": Score(
        "sum_{k=0..T-J} decay (1-decay)^(T-J-k) ||q - mean(q)||_2 over the J-1 steps of window k, "
        "q_t = sum_c |p_{t+1,c} ln(p_{t+1,c} / p_{t,c})|; J = window",
        "high",
        "Zhang et al. 2024",
        score_formulas.tdds,
        constants={"window": 10, "decay": 0.9},
    ),
    "dyn_unc": Score(
        "mean over windows of J epochs of 10 std(p_y), unbiased; J = window",
        "high",
        "He et al. 2024",
        score_formulas.dyn_unc,
        constants={"window": 10},
    ),
    "dual": Score(
        "mean over windows of J epochs of 10 std(p_y) (1 - mean(p_y)), std unbiased; J = window",
        "high",
        "Cho et al. 2025",
        score_formulas.dual,
        constants={"window": 10},
    ),
    "cad_prune": Score(
        "mean over the last W windows of J epochs of std(p_y), unbiased; J = window, W = last_windows",
        "high",
        "Dey et al. 2026",
        score_formulas.cad_prune,
        constants={"window": 6, "last_windows": 2},
    ),
    "cad_prune_el2n": Score(
        "mean over the last W windows of J epochs, without the very last, of std(||softmax(z) - onehot(y)||_2), "
        "unbiased; J = window, W = last_windows",
        "high",
        "Dey et al. 2026, as read by github.com/andriotis/ca2d",
        score_formulas.cad_prune_el2n,
        constants={"window": 6, "last_windows": 2},
    ),
    "grand": Score(
        "||softmax(z) - onehot(y)||_2 sqrt(||h||_2^2 + 1) at the last epoch, h = features",
        "high",
        "Paul et al. 2021",
        score_formulas.grand,
        features=True,
    ),
}
"""Every score of `fastdc.scores`. Formulas are the published ones; `hard` gives the end that marks hard samples."""
