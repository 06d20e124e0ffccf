"""GraNd: the norm of the last layer's loss gradient (Paul et al. 2021)."""

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.score_formulas import Scores, grand
from fastdc.methods.bases.score_methods import FinalScore, ScoreConfig
from fastdc.observe.dynamics_log import Observation


class GraNd(FinalScore):
    r"""Rank images by the norm of the last layer's loss gradient.

    The norm is taken after the observer's last epoch. The gradient of the cross entropy is the outer product of p -
    onehot(y) and the features (h, 1), so its norm is exact without forming it. Several observer runs (10 in the paper)
    estimate the expectation.

    $$s_i = \lVert \nabla_{(W,b)} \ell_i \rVert_2 = \lVert p_i - e_{y_i} \rVert_2 \, \sqrt{\lVert h_i \rVert_2^2 + 1}$$

    Differences:
        The paper takes all parameters at initialisation, a result that could not be reproduced (Kirsch 2023). The last
        layer at the end of training is DeepCore's reading, without its division by the batch size.
    """

    info = cited("grand", "GraNd", "pruning", "paul2021data", needs=("features",))

    def run_scores(self, observation: Observation, config: ScoreConfig) -> Scores:
        """Return the norm of the gradient in one run, float64 [N]; high = hard."""
        return grand(self.seen(observation))


METHOD = GraNd()
