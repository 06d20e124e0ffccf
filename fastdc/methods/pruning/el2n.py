"""EL2N: the norm of the error early in training (Paul et al. 2021)."""

from typing import Self

from pydantic import Field, model_validator

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method_config import Keep, MethodConfig
from fastdc.methods.bases.score_formulas import Scores, el2n
from fastdc.methods.bases.score_methods import EL2N_EPOCHS, Log, RankMethod, ScoreConfig
from fastdc.observe.dynamics_log import Observation


class EL2NRanking(MethodConfig):
    """Settings of a ranking by EL2N.

    Attributes:
        keep: end of the ranking that is kept; `easy` is the benchmark's at small IPC.
        first_epoch: first observer epoch of the averaging window, counted from 1.
        last_epoch: last epoch of the window, included. Epochs 1 to 10 follow CCS's ImageNet code. That the paper used
            the same window is inferred.
    """

    keep: Keep = "easy"
    first_epoch: int = Field(1, ge=1, description="inferred")
    last_epoch: int = Field(EL2N_EPOCHS, ge=1, description="inferred")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.last_epoch < self.first_epoch:
            raise ValueError(f"the window ends before first_epoch={self.first_epoch}")
        return self

    def of_run(self, observation: Observation) -> Scores:
        """Return EL2N of every training image in one observer run, float64 [N], 0 to sqrt(2); high = hard.

        Raises:
            MethodError: the run ends before `last_epoch`.
        """
        return el2n(Log("el2n", observation, self.last_epoch, self.first_epoch))


class EL2NConfig(EL2NRanking, ScoreConfig):
    """Settings of EL2N: those of the ranking, and how the budget is shared.

    Attributes:
        balanced: whether every class keeps the same number of images, as in the benchmark. False is one global ranking.
    """


class EL2N(RankMethod[EL2NConfig]):
    r"""Rank images by the norm of the error, averaged over an epoch window and over observer runs.

    The error is the distance of the predicted probabilities from the label. It is small for images that the network
    learns early. The benchmark keeps these; the paper keeps the others, at far larger budgets.

    $$s_i = \frac{1}{T} \sum_{t=1}^{T} \lVert \mathrm{softmax}(z^t_i) - e_{y_i} \rVert_2$$

    Differences:
        The paper's code averages 10 short runs on CIFAR. Here one observer's epochs 1 to 10 are averaged, as in CCS's
        ImageNet code; `--observer runs=10` averages ten observers.
    """

    info = cited("el2n", "EL2N", "pruning", "paul2021data", needs=("dynamics",))

    def observer_epochs(self, config: EL2NConfig) -> int:
        """Return the last epoch of the window."""
        return config.last_epoch

    def run_scores(self, observation: Observation, config: EL2NConfig) -> Scores:
        """Return EL2N in one run, float64 [N]; high = hard."""
        return config.of_run(observation)


METHOD = EL2N()
