"""DUAL: difficulty times uncertainty, sampled towards easy images at high pruning rates (Cho et al. 2025)."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fastdc.common.keys import derive_seed
from fastdc.methods.bases.difficulty import Scores, dual
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.method_config import Keep
from fastdc.methods.bases.sampling import beta_log_weights, draw_order
from fastdc.methods.bases.score_methods import LogConfig, LogScore, mean_over_runs
from fastdc.methods.bases.selection import select_among
from fastdc.observe.dynamics_log import Observation


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
        return self


class Dual(LogScore[DualConfig]):
    """Draw images by difficulty times uncertainty, with a preference that depends on the pruning rate.

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


METHOD = Dual()
