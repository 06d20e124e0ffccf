"""Entropy: how evenly the trained observer spreads its probability (Coleman et al. 2020)."""

from fastdc.methods.base import MethodConfig, MethodInfo
from fastdc.methods.difficulty import Scores, entropy
from fastdc.methods.scored import FinalScore
from fastdc.methods.uncertainty import BIBTEX, PAPER
from fastdc.observe.record import Observation


class Entropy(FinalScore):
    """Score = -sum_c p_c ln p_c in nats, of the trained observer in eval mode, mean over observer runs.

    The label plays no part. DeepCore keeps the most confident where it is not class-balanced; `keep` decides here.
    """

    info = MethodInfo(
        name="entropy",
        title="Entropy",
        family="pruning",
        paper=PAPER,
        year=2020,
        bibtex=BIBTEX,
        needs=("features",),
    )

    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """Entropy of one run, float64 [N]; high = hard."""
        return entropy(self.seen(observation))


METHOD = Entropy()
