"""Base of the methods that rank training images by one score of the observed training. No torch, no numba."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.errors import MethodError
from fastdc.methods.base import (
    WHOLE_SCHEDULE,
    Compressed,
    Keep,
    Method,
    MethodConfig,
    MethodContext,
    check_budget,
)
from fastdc.methods.difficulty import Scores
from fastdc.methods.selection import select_among
from fastdc.observe.needs import ObserverNeeds
from fastdc.observe.record import Observation


class ScoreConfig(MethodConfig):
    """Settings of a ranking.

    Attributes:
        keep: which end of the ranking is kept; `easy` is the benchmark's at small IPC, `hard` most papers'.
        balanced: the same number of every class, as the benchmark does; False is one global ranking for ipc * C.
    """

    keep: Keep = "easy"
    balanced: bool = True


class LogConfig(ScoreConfig):
    """Settings of a ranking by what the log says of all epochs up to one.

    Attributes:
        last_epoch: last observer epoch that is read, counted from 1; null reads the observer's whole schedule.
    """

    last_epoch: int | None = Field(None, ge=1)


class ScoreMethod(Method):
    """A method whose choice follows from a score of every training image.

    A subclass defines `run_scores`, for one observer run; `scores` averages it over the runs, and `compress` keeps the
    end of the ranking that the settings name. One that chooses in another way overrides `choose`.
    """

    config_class: ClassVar[type[MethodConfig]] = ScoreConfig
    choice_settings: ClassVar[tuple[str, ...]] = ("fit", "augment", "keep", "balanced")
    """Settings that the score does not read; they choose among scored images."""

    @abstractmethod
    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """Scores of one observer run, float64 [N], high = hard."""

    def scores(self, context: MethodContext, config: MethodConfig) -> Scores:
        """Scores averaged over the observer runs, float64 [N], high = hard.

        Raises:
            MethodError: there is no observation, or one lacks what the method reads.
        """
        return mean_over_runs(self.info.name, context.observations, lambda run: self.run_scores(run, config))

    def class_balanced(self, config: MethodConfig) -> bool:
        """As the setting says."""
        return bool(_ranking(config).balanced)

    def choose(
        self, context: MethodContext, config: MethodConfig, scores: Scores, ipc: int, seed: int
    ) -> NDArray[np.int64]:
        """Indices to keep, int64 [ipc * C], most wanted first, class by class where balanced; see `select`."""
        ranking = _ranking(config)
        return select_among(scores, context.labels, len(context.classes), ipc, ranking.keep, ranking.balanced)

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """The chosen images, whole; `details` holds the range of their scores."""
        check_budget(self, config, context.classes, context.counts, ipc)
        scores = self.scores(context, config) if context.scores is None else context.scores
        chosen = self.choose(context, config, scores, ipc, seed)
        return Compressed(
            labels=context.labels[chosen],
            sources=chosen[:, None],
            details={"score_min": float(scores[chosen].min()), "score_max": float(scores[chosen].max())},
        )


class LogScore(ScoreMethod):
    """A score of the dynamics log of all epochs up to `last_epoch`, or of the whole schedule."""

    config_class = LogConfig

    def observer_epochs(self, config: MethodConfig) -> int:
        """`last_epoch`, or the whole schedule."""
        return _log(config).last_epoch or WHOLE_SCHEDULE

    def seen(self, observation: Observation, config: MethodConfig) -> "Log":
        """Return the epochs that the settings name, as the functions of `fastdc.methods.difficulty` read them."""
        return Log(self.info.name, observation, _log(config).last_epoch or observation.epochs)


class FinalScore(ScoreMethod):
    """A score of the pass at the end of the observer's training.

    It needs the digits near 0 and 1, which a pass of fastdc 0.1 lacks. Such a pass is made again, from the weights.
    """

    version = 2

    def observer_needs(self, config: MethodConfig) -> ObserverNeeds:
        """Ask for the pass with `EXACT_FIELDS`."""
        return replace(super().observer_needs(config), exact=True)

    def seen(self, observation: Observation) -> "Log":
        """Return the trained observer, as the functions of `fastdc.methods.difficulty` read it."""
        return Log(self.info.name, observation, observation.epochs)


@dataclass(frozen=True)
class Log:
    """Epochs of one observer run; implements `fastdc.methods.difficulty.Seen`.

    Attributes:
        method: for messages.
        first_epoch, last_epoch: the epochs that are read, counted from 1, both included.
    """

    method: str
    observation: Observation
    last_epoch: int
    first_epoch: int = 1

    def series(self, name: str) -> NDArray[np.float32]:
        """Return a field of the log, float32 [T, N], memory-mapped.

        Raises:
            MethodError: the log is shorter.
        """
        if self.observation.epochs < self.last_epoch:
            raise MethodError(
                f"method {self.method}: {self.observation.folder} holds {self.observation.epochs} epochs, last_epoch="
                f"{self.last_epoch} asked for; observe longer or lower last_epoch"
            )
        return self.observation.field(name)[self.first_epoch - 1 : self.last_epoch]

    def last(self, name: str) -> Scores:
        """Return a scalar of the final pass, whatever `last_epoch`; see `final_field`."""
        return final_field(self.observation, name)

    def steps(self) -> NDArray[np.float32]:
        """Return TDDS's distances, float32 [T - 1, N], memory-mapped.

        Raises:
            MethodError: they were not kept up to `last_epoch`.
        """
        found = self.observation.tdds
        if found.shape[0] < self.last_epoch - 1:
            raise MethodError(
                f"method {self.method}: {self.observation.folder} holds the steps of {found.shape[0] + 1} epochs, "
                f"last_epoch={self.last_epoch} asked for; observe longer or lower last_epoch"
            )
        return found[self.first_epoch - 1 : self.last_epoch - 1]


def final_field(observation: Observation, name: str) -> Scores:
    """One scalar of the final pass, float64 [N]; names in `fastdc.kernels.fields`: `FINAL_FIELDS`, `EXACT_FIELDS`.

    Raises:
        MethodError: the pass was not made, or a value is not finite.
    """
    values = np.asarray(observation.final.field(name), dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise MethodError(f"{observation.folder}: final pass, {name} of sample {bad[0]} is not finite; observe again")
    return values


def mean_over_runs(
    name: str, observations: tuple[Observation, ...], run_scores: Callable[[Observation], Scores]
) -> Scores:
    """`run_scores(observation)` averaged over the runs.

    Raises:
        MethodError: there is none.
    """
    if not observations:
        raise MethodError(f"method {name}: needs an observed training; run `fastdc observe` on this training set first")
    total = np.zeros(observations[0].num_samples)
    for observation in observations:
        total += run_scores(observation)
    return total / len(observations)


def _ranking(config: MethodConfig) -> ScoreConfig:
    assert isinstance(config, ScoreConfig)
    return config


def _log(config: MethodConfig) -> LogConfig:
    assert isinstance(config, LogConfig)
    return config
