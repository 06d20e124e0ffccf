"""Least confidence: how unsure the trained observer is of its top prediction (Coleman et al. 2020)."""

from fastdc.methods.bases.difficulty import Scores, least_confidence
from fastdc.methods.bases.method import MethodConfig, MethodInfo
from fastdc.methods.bases.score_methods import FinalScore
from fastdc.methods.bases.uncertainty_citation import BIBTEX, PAPER
from fastdc.observe.dynamics_log import Observation


class LeastConfidence(FinalScore):
    """Rank images by the trained observer's lack of confidence.

    Score = 1 - max_c p_c in eval mode, averaged over observer runs. High = hard, and the score keeps the digits of a
    probability near 1. The score uses probabilities, as published; DeepCore takes logits. The label plays no part.
    """

    info = MethodInfo(
        name="least_confidence",
        title="Least confidence",
        family="pruning",
        paper=PAPER,
        year=2020,
        bibtex=BIBTEX,
        needs=("features",),
    )

    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """Return one minus the confidence in one run, float64 [N], 0 to 1; high = hard."""
        return least_confidence(self.seen(observation))


METHOD = LeastConfidence()
