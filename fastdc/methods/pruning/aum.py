"""AUM: the area under the margin (Pleiss et al. 2020)."""

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.score_formulas import Scores, aum, aum_softmax
from fastdc.methods.bases.score_methods import LogConfig, LogScore
from fastdc.observe.dynamics_log import Observation


class AUMConfig(LogConfig):
    """Settings of AUM.

    Attributes:
        softmax: whether margins are of probabilities, as in CCS's code, or of logits, as in the paper.
    """

    softmax: bool = False


class AUM(LogScore[AUMConfig]):
    r"""Rank images by the negated area under the margin.

    The margin is the label's logit minus the largest other one. Its mean over the epochs of a training is low for
    images that the network learns late or never, mislabelled ones among them. Several observer runs are averaged.

    $$s_i = -\frac{1}{T} \sum_{t=1}^{T} \left( z^t_{i,y_i} - \max_{j \neq y_i} z^t_{i,j} \right)$$

    Differences:
        * The paper's AUM is high for easy images. The sign is flipped here, so that high = hard.
        * The paper averages up to the first drop of the learning rate. The observer's cosine schedule has no such drop,
          so all epochs count.
        * CCS's code takes margins of probabilities (`softmax=true`) and sums them, which gives the same ranks.
    """

    info = cited("aum", "AUM", "pruning", "pleiss2020identifying", needs=("dynamics",))

    def run_scores(self, observation: Observation, config: AUMConfig) -> Scores:
        """Return the negated area under the margin in one run, float64 [N]; high = hard."""
        return (aum_softmax if config.softmax else aum)(self.seen(observation, config))


METHOD = AUM()
