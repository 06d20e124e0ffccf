"""Bases of the methods that rank training images by one score of the observed training.

Imports no torch and no numba.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypeVar

from fastdc.common.errors import MethodError
from fastdc.methods.bases.method import Compressed, ConfigT, Method, MethodContext, check_budget
from fastdc.methods.bases.method_config import Keep, MethodConfig
from fastdc.methods.bases.score_formulas import DIFFICULTIES, Difficulty, Scores
from fastdc.methods.bases.selection import kept_images, select_among
from fastdc.observe.dynamics_log import Observation
from fastdc.observe.record_needs import WHOLE_SCHEDULE, ObserverNeeds

EL2N_EPOCHS = 10
"""Number of first epochs that EL2N averages over, as in CCS's ImageNet code."""


class ScoreConfig(MethodConfig):
    """Settings of a ranking.

    Attributes:
        keep: end of the ranking that is kept; `easy` is the benchmark's at small IPC, `hard` that of most papers.
        balanced: whether every class keeps the same number of images, as in the benchmark. False is one global ranking
            for ipc * C images.
    """

    keep: Keep = "easy"
    balanced: bool = True


class LogConfig(ScoreConfig):
    """Settings of a ranking by the log of all epochs up to one.

    Attributes:
        last_epoch: last observer epoch that is read, counted from 1; null reads the observer's whole schedule.
    """

    last_epoch: int | None = Field(None, ge=1)


ScoreT = TypeVar("ScoreT", bound=ScoreConfig, default=ScoreConfig)
LogT = TypeVar("LogT", bound=LogConfig, default=LogConfig)


class ScoreMethod(Method[ConfigT]):
    """Base of the methods that choose by a score of every training image.

    A subclass defines `run_scores` for one observer run, which `scores` averages over the runs, and `choose`.
    """

    choice_settings: ClassVar[tuple[str, ...]] = ("fit", "augment", "keep", "balanced")
    """Settings that affect only the choice among scored images, not the score."""

    @abstractmethod
    def run_scores(self, observation: Observation, config: ConfigT) -> Scores:
        """Return the scores of one observer run, float64 [N], high = hard."""

    def scores(self, context: MethodContext, config: ConfigT) -> Scores:
        """Return the scores averaged over the observer runs, float64 [N], high = hard.

        Raises:
            MethodError: there is no observation, or one lacks what the method reads.
        """
        return mean_over_runs(self.info.name, context.observations, lambda run: self.run_scores(run, config))

    @abstractmethod
    def choose(self, context: MethodContext, config: ConfigT, scores: Scores, ipc: int, seed: int) -> NDArray[np.int64]:
        """Return the indices to keep, int64 [ipc * C], in order of preference, by class if balanced."""

    def compress(self, context: MethodContext, config: ConfigT, ipc: int, seed: int) -> Compressed:
        """Keep the chosen images whole; `details` holds the range of their scores."""
        check_budget(self, config, context.classes, context.counts, ipc, context.image_size)
        scores = self.scores(context, config) if context.scores is None else context.scores
        return kept_images(context, self.choose(context, config, scores, ipc, seed), scores)


class RankMethod(ScoreMethod[ScoreT]):
    """Base of the methods that keep one end of the ranking by their score."""

    def class_balanced(self, config: ScoreT) -> bool:
        """Return the setting `balanced`."""
        return config.balanced

    def choose(self, context: MethodContext, config: ScoreT, scores: Scores, ipc: int, seed: int) -> NDArray[np.int64]:
        """Return the indices of the end that `keep` names; see `select`."""
        return select_among(scores, context.labels, len(context.classes), ipc, config.keep, config.balanced)


class LogScore(RankMethod[LogT]):
    """Base of the scores that read the dynamics log of all epochs up to `last_epoch`, or of the whole schedule."""

    def observer_epochs(self, config: LogT) -> int:
        """Return `last_epoch`, or the whole schedule."""
        return config.last_epoch or WHOLE_SCHEDULE

    def seen(self, observation: Observation, config: LogT) -> "Log":
        """Return the epochs that the settings name, in the form that `fastdc.methods.bases.score_formulas` reads."""
        return Log(self.info.name, observation, config.last_epoch or observation.epochs)


class FinalScore(RankMethod[ScoreConfig]):
    """Base of the scores that read the pass at the end of the observer's training.

    These scores need the digits near 0 and 1, which a pass of fastdc 0.1 lacks. Such a pass is made again from the
    weights.
    """

    version = 2

    def observer_needs(self, config: ScoreConfig) -> ObserverNeeds:
        """Return the needs of the method, with `EXACT_FIELDS` in the final pass."""
        return replace(super().observer_needs(config), exact=True)

    def seen(self, observation: Observation) -> "Log":
        """Return the trained observer, in the form that `fastdc.methods.bases.score_formulas` reads."""
        return Log(self.info.name, observation, observation.epochs)


@dataclass(frozen=True)
class Log:
    """Epochs of one observer run; implements `fastdc.methods.bases.score_formulas.Seen`.

    Attributes:
        method: name of the method, for messages.
        observation: record of the run.
        first_epoch, last_epoch: the epochs that are read, counted from 1, both included.
    """

    method: str
    observation: Observation
    last_epoch: int
    first_epoch: int = 1

    def series(self, name: str) -> NDArray[np.float32]:
        """Return a field of the log, float32 [T, N], memory-mapped.

        Raises:
            MethodError: the log ends before `last_epoch`.
        """
        if self.observation.epochs < self.last_epoch:
            raise MethodError(
                f"method {self.method}: {self.observation.folder} holds {self.observation.epochs} epochs, but "
                f"last_epoch={self.last_epoch} was requested; observe longer or lower last_epoch"
            )
        return self.observation.field(name)[self.first_epoch - 1 : self.last_epoch]

    def last(self, name: str) -> Scores:
        """Return a scalar of the final pass, regardless of `last_epoch`; see `final_field`."""
        return final_field(self.observation, name)

    def steps(self) -> NDArray[np.float32]:
        """Return TDDS's distances, float32 [T - 1, N], memory-mapped.

        Raises:
            MethodError: the record holds fewer steps than `last_epoch` needs.
        """
        found = self.observation.tdds
        if found.shape[0] < self.last_epoch - 1:
            raise MethodError(
                f"method {self.method}: {self.observation.folder} holds the steps of {found.shape[0] + 1} epochs, "
                f"but last_epoch={self.last_epoch} was requested; observe longer or lower last_epoch"
            )
        # Row i is the step from epoch i + 1 to i + 2, so T epochs have T - 1 rows.
        return found[self.first_epoch - 1 : self.last_epoch - 1]


def final_field(observation: Observation, name: str) -> Scores:
    """Return one scalar of the final pass, float64 [N].

    Args:
        name: one of `FINAL_FIELDS` or `EXACT_FIELDS` of `fastdc.kernels.scores.fields`.

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
    """Return `run_scores(observation)`, averaged over the runs.

    Args:
        name: name of the method, for messages.

    Raises:
        MethodError: there is no observation.
    """
    if not observations:
        raise MethodError(f"method {name}: needs an observed training; run `fastdc observe` on this training set first")
    total = np.zeros(observations[0].num_samples)
    for observation in observations:
        total += run_scores(observation)
    return total / len(observations)


def difficulty_log(*names: Difficulty) -> int:
    """Return the fewest epochs from which `difficulty_scores` gives every one of these scores."""
    return EL2N_EPOCHS if "el2n" in names else 0


def difficulty_scores(
    method: str, name: Difficulty, observations: tuple[Observation, ...], last_epoch: int | None = None
) -> Scores:
    """Return a score as its own method gives it by default, averaged over the runs, float64 [N]; high = hard.

    Args:
        method: name of the method that reads the score, for messages.
        name: the score.
        last_epoch: last epoch that is read, counted from 1; None for the whole schedule. EL2N reads epochs 1 to 10.
    """

    def of_run(observation: Observation) -> Scores:
        last = EL2N_EPOCHS if name == "el2n" else last_epoch or observation.epochs
        return DIFFICULTIES[name](Log(method, observation, last))

    return mean_over_runs(method, observations, of_run)
