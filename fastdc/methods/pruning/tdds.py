"""TDDS: how unevenly an image's predictions move late in training (Zhang et al. 2024)."""

from pydantic import Field

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.score_formulas import Scores, tdds
from fastdc.methods.bases.score_methods import Log, RankMethod, ScoreConfig
from fastdc.observe.dynamics_log import Observation


class TDDSConfig(ScoreConfig):
    """Settings of TDDS.

    Attributes:
        last_epoch: T, the last observer epoch that is read, counted from 1. 30 is the paper's value for CIFAR; its
            ImageNet code is not published.
        window: J, epochs in a window.
        decay: weight of the newest window; each older window has 1 - decay times the weight of the next.
    """

    last_epoch: int = Field(30, ge=3, description="inferred")
    window: int = Field(10, ge=3)
    decay: float = Field(0.9, gt=0, le=1)


class TDDS(RankMethod[TDDSConfig]):
    r"""Rank images by how unevenly their predictions change from epoch to epoch.

    The change between two epochs is the divergence of the predicted probabilities. In each window of J epochs its
    spread is measured, and late windows weigh most. With the published weights the score depends on about the last J +
    2 epochs up to T; the paper keeps the high end.

    $$
    q_t = \sum_c | p^{t+1}_c (\ln p^{t+1}_c - \ln p^t_c) |,
    \quad s_i = \sum_{k=0}^{T-J} \gamma (1 - \gamma)^{T-J-k} \, \lVert q_{k..k+J-2} - \bar q \rVert_2
    $$

    In the observer's record, q is accurate to about 1e-3, because the previous epoch is kept as float16
    log-probabilities.

    Differences:
        * Logarithms come from log-softmax, without an epsilon.
        * The authors' code stores its scores sorted, not in the order of the samples. Its ImageNet code is not
          published.
    """

    info = cited("tdds", "TDDS", "pruning", "zhang2024spanning", needs=("tdds",))

    def observer_epochs(self, config: TDDSConfig) -> int:
        """Return T, the last epoch that the score reads."""
        return config.last_epoch

    def shortest_log(self, config: TDDSConfig) -> int:
        """Return the epochs of one window."""
        return config.window

    def run_scores(self, observation: Observation, config: TDDSConfig) -> Scores:
        """Return TDDS in one run, float64 [N]; high = hard."""
        return tdds(Log(self.info.name, observation, config.last_epoch), config.window, config.decay)


METHOD = TDDS()
