"""Margin: how close the trained observer's two best guesses are (Coleman et al. 2020)."""

from fastdc.methods.base import MethodConfig, MethodInfo
from fastdc.methods.difficulty import Scores, margin
from fastdc.methods.scored import FinalScore
from fastdc.methods.uncertainty import BIBTEX, PAPER
from fastdc.observe.record import Observation


class Margin(FinalScore):
    """Score = 1 - (largest - second largest probability) of the trained observer in eval mode, mean over runs.

    The paper's margin is low for hard images; one minus it is high = hard, and keeps the digits of a margin near 1. The
    label plays no part.
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
        """One minus the margin of one run, float64 [N], 0 to 1; high = hard."""
        return margin(self.seen(observation))


METHOD = Margin()
