"""CCS, coverage-centric coreset selection: drop the hardest, then cover the rest evenly (Zheng et al. 2023)."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.common.errors import MethodError
from fastdc.common.keys import derive_seed
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.method_config import MethodConfig
from fastdc.methods.bases.score_formulas import Difficulty, Scores
from fastdc.methods.bases.score_methods import ScoreMethod, difficulty_log, difficulty_scores
from fastdc.methods.bases.selection import members_of
from fastdc.observe.dynamics_log import Observation
from fastdc.observe.record_needs import WHOLE_SCHEDULE


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
    score: Difficulty = "aum"
    last_epoch: int | None = Field(None, ge=1)
    balanced: bool = True


class CCS(ScoreMethod[CCSConfig]):
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

    info = cited("ccs", "CCS", "pruning", "zheng2023coverage", needs=("dynamics",), stochastic=True)
    choice_settings = (*ScoreMethod.choice_settings, "beta", "strata")

    def class_balanced(self, config: CCSConfig) -> bool:
        """Return the setting `balanced`."""
        return config.balanced

    def observer_epochs(self, config: CCSConfig) -> int:
        """Return `last_epoch`, at least EL2N's window if EL2N is the score, or the whole schedule."""
        if config.last_epoch is None:
            return WHOLE_SCHEDULE
        return max(config.last_epoch, difficulty_log(config.score))

    def shortest_log(self, config: CCSConfig) -> int:
        """Return EL2N's window if EL2N is the score."""
        return difficulty_log(config.score)

    def run_scores(self, observation: Observation, config: CCSConfig) -> Scores:
        """Return the score that the strata divide, in one run, float64 [N]; high = hard (AUM is negated)."""
        return difficulty_scores(self.info.name, config.score, (observation,), config.last_epoch)

    def choose(
        self, context: MethodContext, config: CCSConfig, scores: Scores, ipc: int, seed: int
    ) -> NDArray[np.int64]:
        """Choose samples by strata, class by class if balanced."""
        by_aum = config.score in ("aum", "aum_softmax")
        # Samples are dropped by AUM in any case.
        hardness = scores if by_aum else difficulty_scores("ccs", "aum", context.observations, config.last_epoch)
        values = -scores if by_aum else scores  # strata divide the published score, and published AUM is high for easy
        # One draw per sample of the whole set, so that a sample's draw does not depend on how the set is grouped.
        draws = np.random.Generator(np.random.PCG64(derive_seed(seed, "ccs strata"))).random(scores.size)
        if config.balanced:
            groups, budget = members_of(context.labels, len(context.classes)), ipc
        else:
            groups, budget = [np.arange(scores.size)], ipc * len(context.classes)
        parts = [_cover(members, hardness, values, draws, budget, config) for members in groups]
        return np.concatenate(parts).astype(np.int64)


def _cover(
    members: NDArray[np.int64], hardness: Scores, values: Scores, draws: Scores, budget: int, config: CCSConfig
) -> NDArray[np.int64]:
    """Choose `budget` of `members`: drop the hardest (ties: the lower index first), then cover the rest."""
    dropped = min(int(config.beta * members.size), members.size - budget)
    by_hardness = members[np.argsort(-hardness[members], kind="stable")]
    left = np.sort(by_hardness[dropped:])
    return left[choose_in_strata(values[left], draws[left], budget, config.strata)]


def strata_of(values: NDArray[np.float64], strata: int) -> NDArray[np.int64]:
    """Return the stratum 0..strata-1 of each value, for strata of equal width over [min, max].

    Only the last stratum includes its upper edge. The authors' code ends it at 1.0001 * max, which leaves a negative
    maximum out. If all values are equal, they are in stratum 0.

    Args:
        values: [n], finite, n >= 1.
        strata: number of strata.
    """
    low, high = values.min(), values.max()
    if high == low:
        return np.zeros(values.size, np.int64)
    position = (values / 2 - low / 2) / (high / 2 - low / 2) * strata  # halved, because high - low may overflow
    # The maximum has position `strata`, and belongs to the last stratum.
    found: NDArray[np.int64] = np.minimum(position.astype(np.int64), strata - 1)
    return found


def strata_budgets(sizes: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Return how many samples each stratum gives.

    Strata are served from the smallest, those of equal size in their order. Each gives min(its size, budget left //
    strata left).

    Args:
        sizes: int64 [S], samples in each stratum.
        budget: samples to give in total.

    Returns:
        int64 [S], sum = `budget`.

    Raises:
        MethodError: the strata hold fewer than `budget`.
    """
    if budget > sizes.sum():
        raise MethodError(f"strata: {budget} images requested, but they hold {sizes.sum()}")
    budgets = np.zeros_like(sizes)
    left = budget
    for served, stratum in enumerate(np.argsort(sizes, kind="stable")):
        budgets[stratum] = min(sizes[stratum], left // (sizes.size - served))
        left -= int(budgets[stratum])
    return budgets


def choose_in_strata(
    values: NDArray[np.float64], draws: NDArray[np.float64], budget: int, strata: int
) -> NDArray[np.int64]:
    """Return the positions of `budget` values, spread over strata and random within each.

    Args:
        values: [n], finite.
        draws: [n], independent uniform random numbers; the smallest in a stratum are taken.
        budget: number of values to choose.
        strata: number of strata.

    Returns:
        int64 [budget], stratum by stratum.
    """
    stratum = strata_of(values, strata)
    sizes = np.bincount(stratum, minlength=strata)
    budgets = strata_budgets(sizes, budget)
    order = np.lexsort((draws, stratum))  # by stratum, then by draw: lexsort's last key is the primary one
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(values.size) - np.repeat(starts, sizes)
    return order[rank < np.repeat(budgets, sizes)].astype(np.int64)


METHOD = CCS()
