"""Margin: how close the trained observer's top two predictions are (Coleman et al. 2020)."""

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.score_formulas import Scores, margin
from fastdc.methods.bases.score_methods import FinalScore, ScoreConfig
from fastdc.observe.dynamics_log import Observation


class Margin(FinalScore):
    """Rank images by how close the trained observer's top two probabilities are.

    The paper's margin is low for hard images. One minus the margin is high for hard ones, and keeps the digits of a
    margin near 1. The label plays no part; the pass is in eval mode, and several observer runs are averaged.

    $$s_i = 1 - (p_{i,(1)} - p_{i,(2)})$$

    Differences:
        DeepCore's code keeps the most confident images if it is not class-balanced. Here `keep` decides.
    """

    info = cited("margin", "Margin", "pruning", "coleman2020selection", needs=("features",))

    def run_scores(self, observation: Observation, config: ScoreConfig) -> Scores:
        """Return one minus the margin in one run, float64 [N], 0 to 1; high = hard."""
        return margin(self.seen(observation))


METHOD = Margin()
