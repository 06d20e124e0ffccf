"""EL2N: the norm of the error early in training (Paul et al. 2021)."""

from typing import Self

from pydantic import Field, model_validator

from fastdc.methods.bases.difficulty import Scores, el2n
from fastdc.methods.bases.method import Keep, MethodConfig, MethodInfo
from fastdc.methods.bases.score_methods import Log, ScoreConfig, ScoreMethod, mean_over_runs
from fastdc.observe.dynamics_log import Observation

PAPER = "Deep Learning on a Data Diet: Finding Important Examples Early in Training"

BIBTEX = (
    "@inproceedings{paul2021data,\n"
    "  title={Deep Learning on a Data Diet: Finding Important Examples Early in Training},\n"
    "  author={Paul, Mansheej and Ganguli, Surya and Dziugaite, Gintare Karolina},\n"
    "  booktitle={Advances in Neural Information Processing Systems},\n"
    "  year={2021}\n"
    "}"
)


class EL2NRanking(MethodConfig):
    """Settings of a ranking by EL2N.

    Attributes:
        keep: end of the ranking that is kept; `easy` is the benchmark's at small IPC.
        first_epoch: first observer epoch of the averaging window, counted from 1.
        last_epoch: last epoch of the window, included. Epochs 1 to 10 follow CCS's ImageNet code. That the paper used
            the same window is inferred.
    """

    keep: Keep = "easy"
    first_epoch: int = Field(1, ge=1, description="inferred")
    last_epoch: int = Field(10, ge=1, description="inferred")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.last_epoch < self.first_epoch:
            raise ValueError(f"the window ends before first_epoch={self.first_epoch}")
        return self


class EL2NConfig(EL2NRanking, ScoreConfig):
    """Settings of EL2N: those of the ranking, and how the budget is shared.

    Attributes:
        balanced: whether every class keeps the same number of images, as in the benchmark. False is one global ranking.
    """


class EL2N(ScoreMethod):
    r"""Rank images by the norm of the error, averaged over an epoch window and over observer runs.

    The error is the distance of the predicted probabilities from the label. It is small for images that the network
    learns early. The benchmark keeps these; the paper keeps the others, at far larger budgets.

    $$s_i = \frac{1}{T} \sum_{t=1}^{T} \lVert \mathrm{softmax}(z^t_i) - e_{y_i} \rVert_2$$

    Differences:
        The paper's code averages 10 short runs on CIFAR. Here one observer's epochs 1 to 10 are averaged, as in CCS's
        ImageNet code; `--observer runs=10` averages ten observers.
    """

    info = MethodInfo(
        name="el2n",
        title="EL2N",
        family="pruning",
        paper=PAPER,
        year=2021,
        bibtex=BIBTEX,
        needs=("dynamics",),
        published={
            "imagenet1k/resnet18/hard/ipc10": 12.2,
            "imagenet1k/resnet18/hard/ipc50": 31.1,
            "imagenet1k/resnet18/hard/ipc100": 38.7,
        },
    )
    config_class = EL2NConfig

    def observer_epochs(self, config: MethodConfig) -> int:
        """Return the last epoch of the window."""
        assert isinstance(config, EL2NConfig)
        return config.last_epoch

    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """Return EL2N in one run, float64 [N]; high = hard."""
        assert isinstance(config, EL2NConfig)
        return el2n_of_run(observation, config.first_epoch, config.last_epoch)


def el2n_scores(observations: tuple[Observation, ...], first_epoch: int, last_epoch: int) -> Scores:
    """Return EL2N of every training image: mean over epochs first..last (counted from 1) and over observer runs.

    Returns:
        float64 [N], 0 (confident and right) to sqrt(2) (confident and wrong).

    Raises:
        MethodError: there is no observation, or one ends before `last_epoch`.
    """
    return mean_over_runs("el2n", observations, lambda run: el2n_of_run(run, first_epoch, last_epoch))


def el2n_of_run(observation: Observation, first_epoch: int, last_epoch: int) -> Scores:
    """Return EL2N of every training image in one observer run; see `el2n_scores`."""
    return el2n(Log("el2n", observation, last_epoch, first_epoch))


METHOD = EL2N()
