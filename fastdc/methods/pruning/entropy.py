"""Entropy: how evenly the trained observer spreads its probability (Coleman et al. 2020)."""

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.score_formulas import Scores, entropy
from fastdc.methods.bases.score_methods import FinalScore, ScoreConfig
from fastdc.observe.dynamics_log import Observation


class Entropy(FinalScore):
    r"""Rank images by the entropy of the trained observer's prediction.

    The entropy is low where the network is sure of a class, right or wrong: the label plays no part. It is taken once,
    in eval mode after the last epoch, in nats. Several observer runs are averaged.

    $$s_i = -\sum_c p_{i,c} \ln p_{i,c}$$

    Differences:
        DeepCore's code keeps the most confident images if it is not class-balanced. Here `keep` decides.
    """

    info = cited("entropy", "Entropy", "pruning", "coleman2020selection", needs=("features",))

    def run_scores(self, observation: Observation, config: ScoreConfig) -> Scores:
        """Return the entropy in one run, float64 [N]; high = hard."""
        return entropy(self.seen(observation))


METHOD = Entropy()
