"""Margin: how close the trained observer's top two predictions are (Coleman et al. 2020)."""

from fastdc.methods.bases.difficulty import Scores, margin
from fastdc.methods.bases.method import MethodConfig, MethodInfo
from fastdc.methods.bases.score_methods import FinalScore
from fastdc.methods.bases.uncertainty_citation import BIBTEX, PAPER
from fastdc.observe.dynamics_log import Observation


class Margin(FinalScore):
    """Rank images by how close the trained observer's top two probabilities are.

    Score = 1 - (largest - second largest probability) in eval mode, averaged over observer runs. The paper's margin is
    low for hard images. One minus the margin is high for hard ones, and keeps the digits of a margin near 1. The label
    plays no part.
    """

    info = MethodInfo(
        name="margin",
        title="Margin",
        family="pruning",
        paper=PAPER,
        year=2020,
        bibtex=BIBTEX,
        needs=("features",),
    )

    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """Return one minus the margin in one run, float64 [N], 0 to 1; high = hard."""
        return margin(self.seen(observation))


METHOD = Margin()
