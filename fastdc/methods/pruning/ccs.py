"""CCS, coverage-centric coreset selection: drop the hardest, then cover the rest evenly (Zheng et al. 2023)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.common.keys import derive_seed
from fastdc.methods.bases.difficulty import Scores
from fastdc.methods.bases.method import WHOLE_SCHEDULE, MethodConfig, MethodContext, MethodInfo
from fastdc.methods.bases.score_methods import LogConfig, ScoreMethod, mean_over_runs
from fastdc.methods.bases.strata import choose_in_strata
from fastdc.methods.pruning.aum import METHOD as AUM_METHOD
from fastdc.methods.pruning.aum import AUMConfig
from fastdc.methods.pruning.el2n import el2n_of_run
from fastdc.methods.pruning.forgetting import METHOD as FORGETTING_METHOD
from fastdc.observe.dynamics_log import Observation

EL2N_EPOCHS = 10
"""Number of first epochs that EL2N averages over, as in CCS's ImageNet code."""


class CCSConfig(MethodConfig):
    """Settings of CCS.

    Attributes:
        beta: share of the samples that is dropped first, those of the lowest AUM. Fewer are dropped if the budget could
            not be met otherwise. The authors use .3 to keep 10 % of ImageNet and .2 to keep 20 %. No value is published
            for smaller budgets.
        strata: number of bins of equal width over the range of the score.
        score: score that the strata divide; the authors' AUM is `aum_softmax`. Samples are always dropped by AUM.
        last_epoch: last observer epoch that AUM and forgetting read, counted from 1; null reads the whole schedule.
        balanced: whether to drop and stratify within each class, `ipc` of each, as the benchmark does. False is the
            published rule, one global budget of ipc * C.
    """

    beta: float = Field(0.3, ge=0, lt=1, description="inferred")
    strata: int = Field(50, ge=1)
    score: Literal["aum", "aum_softmax", "el2n", "forgetting"] = "aum"
    last_epoch: int | None = Field(None, ge=1)
    balanced: bool = True


class CCS(ScoreMethod):
    r"""Drop the int(beta N) samples of the lowest AUM, then choose at random from strata of the score (50 by default).

    The strata have equal width over the range of the score, so the choice covers easy and hard images alike. They are
    served from the smallest. Each gives what it has, at most an equal share of the budget that is left, drawn
    uniformly.

    $$m_b = \min \left( |R_b|, \left\lfloor \frac{\text{budget left}}{\text{strata left}} \right\rfloor \right)$$

    Differences:
        * The highest score is never left out. The authors' code ends the last stratum at 1.0001 times the maximum,
          which leaves a negative maximum out.
        * With `balanced=true` every class has its own count. The authors' code applies the last class's to all.
        * All draws follow the seed. The authors' code sets none.
    """

    info = MethodInfo(
        name="ccs",
        title="CCS",
        family="pruning",
        paper="Coverage-centric Coreset Selection for High Pruning Rates",
        year=2023,
        bibtex=(
            "@inproceedings{zheng2023coverage,\n"
            "  title={Coverage-centric Coreset Selection for High Pruning Rates},\n"
            "  author={Zheng, Haizhong and Liu, Rui and Lai, Fan and Prakash, Atul},\n"
            "  booktitle={International Conference on Learning Representations},\n"
            "  year={2023}\n"
            "}"
        ),
        needs=("dynamics",),
        stochastic=True,
    )
    config_class = CCSConfig
    choice_settings = (*ScoreMethod.choice_settings, "beta", "strata")

    def class_balanced(self, config: MethodConfig) -> bool:
        """Return the setting `balanced`."""
        return _typed(config).balanced

    def observer_epochs(self, config: MethodConfig) -> int:
        """Return `last_epoch`, at least EL2N's window if EL2N is the score, or the whole schedule."""
        settings = _typed(config)
        if settings.last_epoch is None:
            return WHOLE_SCHEDULE
        return max(settings.last_epoch, EL2N_EPOCHS if settings.score == "el2n" else 0)

    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """Return the score that the strata divide, in one run, float64 [N]; high = hard (AUM is negated)."""
        settings = _typed(config)
        if settings.score == "el2n":
            return el2n_of_run(observation, 1, EL2N_EPOCHS)
        if settings.score == "forgetting":
            return FORGETTING_METHOD.run_scores(observation, LogConfig(last_epoch=settings.last_epoch))
        return _negated_aum(observation, settings)

    def choose(
        self, context: MethodContext, config: MethodConfig, scores: Scores, ipc: int, seed: int
    ) -> NDArray[np.int64]:
        """Choose samples by strata, class by class if balanced."""
        settings = _typed(config)
        by_aum = settings.score in ("aum", "aum_softmax")
        hardness = scores if by_aum else self._hardness(context, settings)  # samples are dropped by AUM in any case
        values = -scores if by_aum else scores  # strata divide the published score, and published AUM is high for easy
        # One draw per sample of the whole set, so that a sample's draw does not depend on how the set is grouped.
        draws = np.random.Generator(np.random.PCG64(derive_seed(seed, "ccs strata"))).random(scores.size)
        if not settings.balanced:
            groups, budget = [np.arange(scores.size)], ipc * len(context.classes)
        else:
            groups, budget = [np.flatnonzero(context.labels == label) for label in range(len(context.classes))], ipc
        parts = [_cover(members, hardness, values, draws, budget, settings) for members in groups]
        return np.concatenate(parts).astype(np.int64)

    def _hardness(self, context: MethodContext, settings: CCSConfig) -> Scores:
        return mean_over_runs(self.info.name, context.observations, lambda run: _negated_aum(run, settings))


def _cover(
    members: NDArray[np.int64], hardness: Scores, values: Scores, draws: Scores, budget: int, settings: CCSConfig
) -> NDArray[np.int64]:
    """Choose `budget` of `members`: drop the hardest (ties: the lower index first), then cover the rest."""
    dropped = min(int(settings.beta * members.size), members.size - budget)
    by_hardness = members[np.argsort(-hardness[members], kind="stable")]
    left = np.sort(by_hardness[dropped:])
    return left[choose_in_strata(values[left], draws[left], budget, settings.strata)]


def _negated_aum(observation: Observation, settings: CCSConfig) -> Scores:
    softmax = settings.score == "aum_softmax"
    return AUM_METHOD.run_scores(observation, AUMConfig(softmax=softmax, last_epoch=settings.last_epoch))


def _typed(config: MethodConfig) -> CCSConfig:
    assert isinstance(config, CCSConfig)
    return config


METHOD = CCS()
