"""DUAL: difficulty times uncertainty, sampled towards easy images at high pruning rates (Cho et al. 2025)."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fastdc.common.keys import derive_seed
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.method_config import Keep
from fastdc.methods.bases.score_formulas import Scores, dual
from fastdc.methods.bases.score_methods import LogConfig, LogScore, mean_over_runs
from fastdc.methods.bases.selection import select_among
from fastdc.observe.dynamics_log import Observation

TOTAL = 16.0
"""a + b of DUAL's Beta distribution; b is at most one less."""

ANCHORS = 10
"""Number of highest-scoring samples whose mean probability anchors DUAL's Beta distribution."""


class DualConfig(LogConfig):
    """Settings of DUAL.

    Attributes:
        window: J, epochs in a window.
        sampling: whether images are drawn in proportion to score * Beta density of their mean probability, the paper's
            rule at high pruning rates. False keeps one end of the ranking.
        exponent: c; the larger it is, the later the Beta density shifts to easy images as the pruning rate grows.
        keep: end that is kept without sampling; `hard` is the paper's. Sampling itself prefers high scores.
    """

    keep: Keep = "hard"
    window: int = Field(10, ge=2)
    sampling: bool = True
    exponent: float = Field(11, gt=0)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.sampling and self.keep == "easy":
            raise ValueError("keep=easy needs sampling=false: sampling prefers high scores by its own rule")
        self.refuse_unread({} if self.sampling else {"exponent": "with sampling=false"})
        return self


class Dual(LogScore[DualConfig]):
    r"""Draw images by difficulty times uncertainty, with a preference that depends on the pruning rate.

    The score multiplies the variation of the label's probability by its distance from 1, window by window. By default
    images are drawn without replacement, with a weight that moves to easy images as the pruning rate grows. Here m is
    the mean of p_y over all epochs that are read, and the rate is that of the whole set; see `beta_log_weights`.

    $$
    s_i = \frac{10}{T - J + 1} \sum_{k=0}^{T-J} \mathrm{std}(p^{k..k+J-1}_{i,y_i}) \left( 1 -
    \mathrm{mean}(p^{k..k+J-1}_{i,y_i}) \right),
    \quad w_i = s_i \, \mathrm{Beta}(m_i; a, b)
    $$

    Differences:
        The released ImageNet scorer writes the path in place of the scores, and its default arguments contradict each
        other. This method follows the paper.
    """

    info = cited("dual", "DUAL", "pruning", "cho2025lightweight", needs=("dynamics",), stochastic=True)
    choice_settings = (*LogScore.choice_settings, "sampling", "exponent")

    def shortest_log(self, config: DualConfig) -> int:
        """Return the epochs of one window."""
        return config.window

    def run_scores(self, observation: Observation, config: DualConfig) -> Scores:
        """Return DUAL in one run, float64 [N]; high = hard."""
        return dual(self.seen(observation, config), config.window)

    def choose(
        self, context: MethodContext, config: DualConfig, scores: Scores, ipc: int, seed: int
    ) -> NDArray[np.int64]:
        """Draw images by weight, in the order drawn, or take one end of the ranking."""
        if not config.sampling:
            return super().choose(context, config, scores, ipc, seed)
        mean_p = mean_over_runs(self.info.name, context.observations, lambda run: self._mean_p(run, config))
        rate = 1 - ipc * len(context.classes) / scores.size
        weights = beta_log_weights(scores, mean_p, rate, config.exponent)
        priorities = draw_order(weights, derive_seed(seed, "dual sampling"))
        # `draw_order` gives the first draw the highest priority, so "hard" keeps the draws, whatever config.keep is.
        return select_among(priorities, context.labels, len(context.classes), ipc, "hard", config.balanced)

    def _mean_p(self, observation: Observation, config: DualConfig) -> Scores:
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.scores.epochs import mean_over_epochs

        own = self.seen(observation, config).series("p_y")
        return mean_over_epochs(own, 0, own.shape[0])


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


METHOD = Dual()
