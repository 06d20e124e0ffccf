"""GraNd: the norm of the last layer's loss gradient (Paul et al. 2021)."""

from fastdc.methods.bases.difficulty import Scores, grand
from fastdc.methods.bases.method import MethodConfig, MethodInfo
from fastdc.methods.bases.score_methods import FinalScore
from fastdc.methods.pruning.el2n import BIBTEX, PAPER
from fastdc.observe.dynamics_log import Observation


class GraNd(FinalScore):
    """Rank images by the norm of the last layer's loss gradient.

    Score = ||d loss / d (W, b)||_2 of the last linear layer at the end of the observer's training, averaged over
    observer runs. The gradient of cross entropy is the outer product of p - onehot(y) and (h, 1). Its norm is therefore
    ||p - onehot(y)||_2 sqrt(||h||_2^2 + 1), exact without forming the gradient. The paper takes all parameters at
    initialisation, a result that could not be reproduced (Kirsch 2023). The last layer at the end of training is
    DeepCore's reading. Several observer runs (10 in the paper) estimate the expectation.
    """

    info = MethodInfo(
        name="grand", title="GraNd", family="pruning", paper=PAPER, year=2021, bibtex=BIBTEX, needs=("features",)
    )

    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """Return the norm of the gradient in one run, float64 [N]; high = hard."""
        return grand(self.seen(observation))


METHOD = GraNd()
