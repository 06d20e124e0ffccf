"""AUM: the area under the margin (Pleiss et al. 2020)."""

from fastdc.methods.bases.difficulty import Scores, aum, aum_softmax
from fastdc.methods.bases.method import MethodConfig, MethodInfo
from fastdc.methods.bases.score_methods import LogConfig, LogScore
from fastdc.observe.dynamics_log import Observation


class AUMConfig(LogConfig):
    """Settings of AUM.

    Attributes:
        softmax: whether margins are of probabilities, as in CCS's code, or of logits, as in the paper.
    """

    softmax: bool = False


class AUM(LogScore):
    """Rank images by the negated area under the margin.

    Score = -(1 / T) sum_t (z_y - max over j != y of z_j), averaged over observer runs. The paper's AUM is high for easy
    images; the sign is flipped here so that high = hard. The paper averages up to the first drop of the learning rate.
    The observer's cosine schedule has no such drop, so all epochs count. CCS also uses all epochs; it sums them, which
    gives the same ranks.
    """

    info = MethodInfo(
        name="aum",
        title="AUM",
        family="pruning",
        paper="Identifying Mislabeled Data using the Area Under the Margin Ranking",
        year=2020,
        bibtex=(
            "@inproceedings{pleiss2020identifying,\n"
            "  title={Identifying Mislabeled Data using the Area Under the Margin Ranking},\n"
            "  author={Pleiss, Geoff and Zhang, Tianyi and Elenberg, Ethan and Weinberger, Kilian Q.},\n"
            "  booktitle={Advances in Neural Information Processing Systems},\n"
            "  year={2020}\n"
            "}"
        ),
        needs=("dynamics",),
    )
    config_class = AUMConfig

    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """Return the negated area under the margin in one run, float64 [N]; high = hard."""
        assert isinstance(config, AUMConfig)
        return (aum_softmax if config.softmax else aum)(self.seen(observation, config))


METHOD = AUM()
