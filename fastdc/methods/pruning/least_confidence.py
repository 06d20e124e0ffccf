"""Least confidence: how unsure the trained observer is of its top prediction (Coleman et al. 2020)."""

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.score_formulas import Scores, least_confidence
from fastdc.methods.bases.score_methods import FinalScore, ScoreConfig
from fastdc.observe.dynamics_log import Observation


class LeastConfidence(FinalScore):
    r"""Rank images by the trained observer's lack of confidence.

    The score is one minus the largest probability, in eval mode after the last epoch. It keeps the digits of a
    probability near 1. The label plays no part; several observer runs are averaged.

    $$s_i = 1 - \max_c p_{i,c}$$

    Differences:
        The score uses probabilities, as published. DeepCore's code takes logits.
    """

    info = cited("least_confidence", "Least confidence", "pruning", "coleman2020selection", needs=("features",))

    def run_scores(self, observation: Observation, config: ScoreConfig) -> Scores:
        """Return one minus the confidence in one run, float64 [N], 0 to 1; high = hard."""
        return least_confidence(self.seen(observation))


METHOD = LeastConfidence()
