"""AUM: the area under the margin (Pleiss et al. 2020)."""

from fastdc.methods.base import MethodConfig, MethodInfo
from fastdc.methods.difficulty import Scores, aum, aum_softmax
from fastdc.methods.scored import LogConfig, LogScore
from fastdc.observe.record import Observation


class AUMConfig(LogConfig):
    """Settings of AUM.

    Attributes:
        softmax: margins of probabilities, as CCS's code takes them, instead of the paper's margins of logits.
    """

    softmax: bool = False


class AUM(LogScore):
    """Score = -(1 / T) sum_t (z_y - max over j != y of z_j), mean over observer runs.

    The paper's AUM is high for easy images; it is negated here, so that high = hard. The paper averages up to the first
    drop of the learning rate; the observer's cosine has none, so all epochs count, as in CCS (which sums: same ranks).
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
        """The negated area of one run, float64 [N]; high = hard."""
        assert isinstance(config, AUMConfig)
        return (aum_softmax if config.softmax else aum)(self.seen(observation, config))


METHOD = AUM()
