"""EL2N: the norm of the error early in training (Paul et al. 2021)."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fastdc.errors import MethodError
from fastdc.methods.base import Compressed, Keep, Method, MethodConfig, MethodContext, MethodInfo, check_budget
from fastdc.methods.selection import select
from fastdc.observe.record import Observation


class EL2NRanking(MethodConfig):
    """Settings of a ranking by EL2N.

    Attributes:
        keep: which end of the ranking is kept; `easy` is the benchmark's at small IPC.
        first_epoch: first observer epoch of the averaging window, counted from 1.
        last_epoch: last epoch of the window, included. 1 to 10 follows CCS's ImageNet code; that the paper
            used the same window is inferred.
    """

    keep: Keep = "easy"
    first_epoch: int = Field(1, ge=1, description="inferred")
    last_epoch: int = Field(10, ge=1, description="inferred")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.last_epoch < self.first_epoch:
            raise ValueError(f"the window ends before first_epoch={self.first_epoch}")
        return self


class EL2NConfig(EL2NRanking):
    """Settings of EL2N: those of the ranking, and the budget.

    Attributes:
        balanced: the same number of every class, as the benchmark does; False is one global ranking.
    """

    balanced: bool = True


class EL2N(Method):
    """Score ||softmax(f(x)) - onehot(y)||_2, averaged over an epoch window and over observer runs."""

    info = MethodInfo(
        name="el2n",
        title="EL2N",
        family="pruning",
        paper="Deep Learning on a Data Diet: Finding Important Examples Early in Training",
        year=2021,
        bibtex=(
            "@inproceedings{paul2021data,\n"
            "  title={Deep Learning on a Data Diet: Finding Important Examples Early in Training},\n"
            "  author={Paul, Mansheej and Ganguli, Surya and Dziugaite, Gintare Karolina},\n"
            "  booktitle={Advances in Neural Information Processing Systems},\n"
            "  year={2021}\n"
            "}"
        ),
        needs=("dynamics",),
        published={
            "imagenet1k/resnet18/hard/ipc10": 12.2,
            "imagenet1k/resnet18/hard/ipc50": 31.1,
            "imagenet1k/resnet18/hard/ipc100": 38.7,
        },
    )
    config_class = EL2NConfig

    def observer_epochs(self, config: MethodConfig) -> int:
        """The window's last epoch."""
        assert isinstance(config, EL2NConfig)
        return config.last_epoch

    def class_balanced(self, config: MethodConfig) -> bool:
        """As the setting says."""
        assert isinstance(config, EL2NConfig)
        return config.balanced

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """The `ipc` easiest (or hardest) images of every class."""
        assert isinstance(config, EL2NConfig)
        check_budget(self, config, context.classes, context.counts, ipc)
        scores = el2n_scores(context.observations, config.first_epoch, config.last_epoch)
        chosen = select(scores, context.labels, ipc, config.keep, config.balanced)
        return Compressed(
            labels=context.labels[chosen],
            sources=chosen[:, None],
            details={"score_min": float(scores[chosen].min()), "score_max": float(scores[chosen].max())},
        )


def el2n_scores(observations: tuple[Observation, ...], first_epoch: int, last_epoch: int) -> NDArray[np.float64]:
    """EL2N of every training image: mean over epochs first..last (counted from 1) and over observer runs.

    Returns:
        float64 [N], 0 (sure and right) to sqrt(2) (sure and wrong).

    Raises:
        MethodError: there is no observation, or it ends before `last_epoch`.
    """
    from fastdc.kernels.scores import mean_over_epochs  # numba takes half a second; listing methods must not pay it

    if not observations:
        raise MethodError("method el2n: needs an observed training; run `fastdc observe` on this training set first")
    total = np.zeros(observations[0].num_samples)
    for observation in observations:
        if observation.epochs < last_epoch:
            raise MethodError(
                f"method el2n: {observation.folder} holds {observation.epochs} epochs, last_epoch={last_epoch} asked "
                "for; observe longer or lower last_epoch"
            )
        total += mean_over_epochs(observation.field("el2n"), first_epoch - 1, last_epoch)
    return total / len(observations)


METHOD = EL2N()
