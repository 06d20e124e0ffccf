"""Forgetting: how often training unlearns an image (Toneva et al. 2019)."""

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.score_formulas import Scores, forgetting
from fastdc.methods.bases.score_methods import LogConfig, LogScore
from fastdc.observe.dynamics_log import Observation


class Forgetting(LogScore):
    r"""Rank images by the number of epochs at which they turn from correct to wrong, averaged over observer runs.

    Each epoch presents an image once, augmented, in train mode, as in the paper. Correct means a positive margin; a tie
    is wrong. An image that was never correct gets T, the number of epochs, which no other image can reach.

    $$s_i = \sum_{t=2}^{T} [\, \mathrm{correct}^{t-1}_i \wedge \neg \mathrm{correct}^{t}_i \,]$$

    Differences:
        CCS's and DeepCore's code gives 0 to images that were never correct, as if they were never forgotten. The paper
        ranks them hardest, and so does this method.
    """

    info = cited("forgetting", "Forgetting", "pruning", "toneva2019empirical", needs=("dynamics",))

    def run_scores(self, observation: Observation, config: LogConfig) -> Scores:
        """Return the forgetting events in one run, float64 [N]; high = hard."""
        return forgetting(self.seen(observation, config))


METHOD = Forgetting()
