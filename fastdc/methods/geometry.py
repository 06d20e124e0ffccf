"""What methods share that choose by the geometry of the observer's final features. Imports no torch and no numba."""

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastdc.errors import MethodError
from fastdc.methods.base import (
    Compressed,
    Keep,
    Method,
    MethodConfig,
    MethodContext,
    check_budget,
)
from fastdc.methods.selection import select_among
from fastdc.threads import usable_cpus

if TYPE_CHECKING:
    from fastdc.kernels.panels import Panels

Result = TypeVar("Result")
CHUNK = 4096
"""Rows read from the feature file at once; a multiple of the kernels' panel size."""


class FinalFeatures(Protocol):
    """What geometry methods read of an observer's final pass, `Observation.final`."""

    def features(self) -> NDArray[np.float16]:
        """Penultimate features, float16 [N, D], memory-mapped."""

    def outputs(self) -> NDArray[np.float16]:
        """Softmax probabilities, float16 [N, C], memory-mapped."""


@dataclass(frozen=True)
class Group:
    """The samples among which one choice is made: a class, or the whole set.

    Attributes:
        members: int64 [n], ascending sample numbers.
        labels: int64 [N], of the whole set.
        final: the final pass.
        workers: threads that one kernel call may use.
    """

    members: NDArray[np.int64]
    labels: NDArray[np.int64]
    final: FinalFeatures
    workers: int

    def rows(self) -> NDArray[np.float32]:
        """The members' features, float32 [n, D].

        Raises:
            MethodError: names the first sample with a feature that is not finite.
        """
        return _finite(self.final.features(), self.members, "features")

    def features(self) -> "Panels":
        """The members' features, packed for the kernels; errors as `rows`."""
        return self._packed(self.final.features(), lambda part: _finite(self.final.features(), part, "features"))

    def residuals(self) -> "Panels":
        """softmax - onehot(label) of the members, packed for the kernels.

        The label's entry is minus the sum of all others: 1 - p_y would keep nothing of a p_y near 1 in float16.

        Raises:
            MethodError: names the first sample with an output that is not finite.
        """
        return self._packed(self.final.outputs(), self._residuals)

    def _residuals(self, part: NDArray[np.int64]) -> NDArray[np.float32]:
        out = _finite(self.final.outputs(), part, "outputs")
        own = (np.arange(part.size), self.labels[part])
        out[own] = 0.0
        out[own] = -out.sum(axis=1, dtype=np.float64)
        return out

    def _packed(
        self, source: NDArray[np.float16], read: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    ) -> "Panels":
        from fastdc.kernels.panels import empty_panels, fill_panels  # numba takes half a second to import

        panels = empty_panels(self.members.size, source.shape[1], self.workers)
        for start in range(0, self.members.size, CHUNK):
            fill_panels(panels, start, read(self.members[start : start + CHUNK]))
        return panels


def _finite(source: NDArray[np.float16], members: NDArray[np.int64], what: str) -> NDArray[np.float32]:
    rows = source[members].astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise MethodError(f"{what} of sample {members[bad[0]]} are not finite ({bad.size} such samples); observe again")
    return rows


def final_features(context: MethodContext, name: str) -> FinalFeatures:
    """The final pass of the first observer run; features of different runs span different spaces and are not averaged.

    Raises:
        MethodError: there is no observation, it has no final pass, or that is of another set.
    """
    if not context.observations:
        raise MethodError(f"method {name}: needs an observed training; run `fastdc observe` on this training set first")
    final = context.observations[0].final
    found = final.features().shape[0]
    if found != context.labels.size:
        raise MethodError(f"method {name}: features of {found} samples, the training set has {context.labels.size}")
    return final


def groups_of(context: MethodContext, name: str, balanced: bool) -> list[Group]:
    """One group per class, in class order, or one group of all. Several groups are to be shared out among threads.

    Raises:
        MethodError: as `final_features`.
    """
    final = final_features(context, name)
    if not balanced:
        return [Group(np.arange(context.labels.size), context.labels, final, usable_cpus())]
    order = np.argsort(context.labels, kind="stable")
    members = np.split(order, np.cumsum(context.counts)[:-1])
    workers = 1 if len(members) > 1 else usable_cpus()
    return [Group(part, context.labels, final, workers) for part in members]


def filled(groups: list[Group]) -> list[Group]:
    """Without classes that have no image, which a global budget allows."""
    return [group for group in groups if group.members.size]


def per_group(groups: list[Group], work: Callable[[Group], Result]) -> list[Result]:
    """`work` of every group, in order; groups are shared out among as many threads as there are CPUs.

    Kernels release Python's lock, and no group's result depends on another's.
    """
    with ThreadPoolExecutor(min(len(groups), usable_cpus())) as pool:
        return list(pool.map(work, groups))


class GeometryConfig(MethodConfig):
    """Settings of a choice by geometry.

    Attributes:
        balanced: the same number of every class, each class by itself, as the benchmark does; False is one choice
            among all images.
    """

    balanced: bool = True


class DistanceConfig(GeometryConfig):
    """Settings of a ranking by distance from a prototype.

    Attributes:
        keep: `easy` keeps the images nearest to their prototype, the paper's advice where data are scarce; `hard` the
            farthest.
    """

    keep: Keep = "easy"


class FeatureMethod(Method):
    """A method that reads the trained observer's features; `needs` holds "features", perhaps more."""

    def class_balanced(self, config: MethodConfig) -> bool:
        """As the setting says; always, where there is no such setting."""
        return config.balanced if isinstance(config, GeometryConfig) else True

    def budget(self, context: MethodContext, config: MethodConfig, ipc: int) -> int:
        """Images to choose in each group.

        Raises:
            MethodError: the training set cannot serve `ipc`.
        """
        check_budget(self, config, context.classes, context.counts, ipc)
        return ipc if self.class_balanced(config) else ipc * len(context.classes)


class GreedyMethod(FeatureMethod):
    """A method that puts the samples of each group in an order, one after the other."""

    @abstractmethod
    def order(self, group: Group, config: MethodConfig, budget: int) -> NDArray[np.int64]:
        """`budget` distinct positions in `group.members`, most wanted first."""

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """`ipc` images of every class, grouped by class, each in order of choice (or ipc * classes of all)."""
        budget = self.budget(context, config, ipc)
        groups = groups_of(context, self.info.name, self.class_balanced(config))
        chosen = np.concatenate(per_group(groups, lambda group: group.members[self.order(group, config, budget)]))
        return Compressed(labels=context.labels[chosen], sources=chosen[:, None])


class DistanceMethod(FeatureMethod):
    """A method that ranks all images by their distance from a prototype."""

    @abstractmethod
    def scores(self, context: MethodContext, config: MethodConfig) -> NDArray[np.float64]:
        """Distance of every training image, float64 [N]; high = hard."""

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """The `ipc` nearest (or farthest) images of every class, or ipc * classes of all."""
        assert isinstance(config, DistanceConfig)
        self.budget(context, config, ipc)
        scores = self.scores(context, config) if context.scores is None else context.scores
        chosen = select_among(scores, context.labels, len(context.classes), ipc, config.keep, config.balanced)
        return Compressed(context.labels[chosen], chosen[:, None], details=score_range(scores[chosen]))


def score_range(scores: NDArray[np.float64]) -> dict[str, float]:
    """Smallest and largest score of what was kept, for the manifest."""
    return {"score_min": float(scores.min()), "score_max": float(scores.max())}
