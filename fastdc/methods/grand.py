"""GraNd: the norm of the loss gradient (Paul et al. 2021), of the last layer."""

from fastdc.methods.base import MethodConfig, MethodInfo
from fastdc.methods.difficulty import Scores, grand
from fastdc.methods.el2n import BIBTEX, PAPER
from fastdc.methods.scored import FinalScore
from fastdc.observe.record import Observation


class GraNd(FinalScore):
    """Score ||d loss / d (W, b)||_2 of the last linear layer at the end of the observer's training, mean over runs.

    The gradient of cross entropy is the outer product of p - onehot(y) and (h, 1), so its norm is
    ||p - onehot(y)||_2 sqrt(||h||_2^2 + 1), exact, without forming it. The paper takes all parameters at
    initialisation, which could not be reproduced (Kirsch 2023); the last layer at the end is DeepCore's reading.
    Several observer runs (10 in the paper) give the expectation.
    """

    info = MethodInfo(
        name="grand", title="GraNd", family="pruning", paper=PAPER, year=2021, bibtex=BIBTEX, needs=("features",)
    )

    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """The gradient's norm, float64 [N]; high = hard."""
        return grand(self.seen(observation))


METHOD = GraNd()
