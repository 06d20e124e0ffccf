"""Bases of the methods that choose by the geometry of the observer's final features. Imports no torch and no numba."""

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypeVar

from fastdc.common.errors import MethodError
from fastdc.common.threads import usable_cpus
from fastdc.methods.bases.method import Compressed, ConfigT, Method, MethodContext, check_budget
from fastdc.methods.bases.method_config import Keep, MethodConfig
from fastdc.methods.bases.selection import kept_images, select_among

if TYPE_CHECKING:
    from fastdc.kernels.geometry.products import Panels

Result = TypeVar("Result")
CHUNK = 4096
"""Rows of the feature file that are read at once; a multiple of the kernels' panel size."""


class FinalFeatures(Protocol):
    """Arrays of an observer's final pass, `Observation.final`, that geometry methods read."""

    def features(self) -> NDArray[np.float16]:
        """Return penultimate features, float16 [N, D], memory-mapped."""

    def outputs(self) -> NDArray[np.float16]:
        """Return softmax probabilities, float16 [N, C], memory-mapped."""


@dataclass(frozen=True)
class Group:
    """Group of samples among which one choice is made: a class, or the whole set.

    Attributes:
        members: int64 [n], ascending sample numbers.
        labels: int64 [N], of the whole set.
        final: the observer's final pass.
        workers: threads that one kernel call may use.
    """

    members: NDArray[np.int64]
    labels: NDArray[np.int64]
    final: FinalFeatures
    workers: int

    def rows(self) -> NDArray[np.float32]:
        """Return the members' features, float32 [n, D].

        Raises:
            MethodError: a feature is not finite; the message names the first such sample.
        """
        return _finite(self.final.features(), self.members, "features")

    def features(self) -> "Panels":
        """Return the members' features, packed for the kernels; raises the same errors as `rows`."""
        return self._packed(self.final.features(), lambda part: _finite(self.final.features(), part, "features"))

    def residuals(self) -> "Panels":
        """Return softmax - onehot(label) of the members, packed for the kernels.

        The label's entry is minus the sum of all others. In float16, 1 - p_y would lose all digits of a p_y near 1.

        Raises:
            MethodError: an output is not finite; the message names the first such sample.
        """
        return self._packed(self.final.outputs(), self._residuals)

    def _residuals(self, part: NDArray[np.int64]) -> NDArray[np.float32]:
        out = _finite(self.final.outputs(), part, "outputs")
        own = (np.arange(part.size), self.labels[part])
        out[own] = 0.0  # leaves the label's own probability out of the sum
        out[own] = -out.sum(axis=1, dtype=np.float64)
        return out

    def _packed(
        self, source: NDArray[np.float16], read: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    ) -> "Panels":
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.products import empty_panels, fill_panels

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
    """Return the final pass of the first observer run.

    Features of different runs span different spaces, so they cannot be averaged.

    Raises:
        MethodError: there is no observation, it has no final pass, or the pass is of another set.
    """
    if not context.observations:
        raise MethodError(f"method {name}: needs an observed training; run `fastdc observe` on this training set first")
    final = context.observations[0].final
    found = final.features().shape[0]
    if found != context.labels.size:
        raise MethodError(f"method {name}: features of {found} samples, the training set has {context.labels.size}")
    return final


def groups_of(context: MethodContext, name: str, balanced: bool) -> list[Group]:
    """Return one group per class, in class order, or one group of all samples.

    Raises:
        MethodError: as `final_features`.
    """
    final = final_features(context, name)
    if not balanced:
        return [Group(np.arange(context.labels.size), context.labels, final, usable_cpus())]
    order = np.argsort(context.labels, kind="stable")  # stable: sample numbers ascend within a class
    members = np.split(order, np.cumsum(context.counts)[:-1])
    workers = 1 if len(members) > 1 else usable_cpus()  # `per_group` gives several groups a thread each
    return [Group(part, context.labels, final, workers) for part in members]


def per_group(groups: list[Group], work: Callable[[Group], Result]) -> list[Result]:
    """Return `work` of every group, in order, computed by as many threads as there are CPUs.

    Kernels release the GIL, and no group's result depends on another's.
    """
    with ThreadPoolExecutor(min(len(groups), usable_cpus())) as pool:
        return list(pool.map(work, groups))


def within_classes(
    context: MethodContext, name: str, distances: Callable[[Group], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the distances of all training images, each computed within its class, float64 [N].

    Args:
        name: name of the method, for messages.
        distances: returns the distances of a group's members, float64 [n].
    """
    # Under a global budget a class may have no images.
    groups = [group for group in groups_of(context, name, balanced=True) if group.members.size]
    out = np.empty(context.labels.size)
    for group, found in zip(groups, per_group(groups, distances), strict=True):
        out[group.members] = found
    return out


class GeometryConfig(MethodConfig):
    """Settings of a choice by geometry.

    Attributes:
        balanced: whether the same number is chosen within each class, as in the benchmark. False is one choice among
            all images.
    """

    balanced: bool = True


class DistanceConfig(GeometryConfig):
    """Settings of a ranking by distance from a prototype.

    Attributes:
        keep: `easy` keeps the images nearest to their prototype, the paper's advice for scarce data; `hard` keeps the
            farthest.
    """

    keep: Keep = "easy"


DistanceT = TypeVar("DistanceT", bound=DistanceConfig, default=DistanceConfig)


class FeatureMethod(Method[ConfigT]):
    """Base of the methods that read the trained observer's features; their `needs` include "features"."""

    def class_balanced(self, config: ConfigT) -> bool:
        """Return the setting `balanced`, or True if the method has no such setting."""
        return config.balanced if isinstance(config, GeometryConfig) else True

    def budget(self, context: MethodContext, config: ConfigT, ipc: int) -> int:
        """Return the number of images to choose in each group.

        Raises:
            MethodError: the training set cannot serve `ipc`.
        """
        check_budget(self, config, context.classes, context.counts, ipc, context.image_size)
        return ipc if self.class_balanced(config) else ipc * len(context.classes)


class GreedyMethod(FeatureMethod[ConfigT]):
    """Base of the methods that choose the samples of each group one after another."""

    @abstractmethod
    def order(self, group: Group, config: ConfigT, budget: int) -> NDArray[np.int64]:
        """Return `budget` distinct positions in `group.members`, in order of preference."""

    def compress(self, context: MethodContext, config: ConfigT, ipc: int, seed: int) -> Compressed:
        """Choose `ipc` images of every class, grouped by class, in order of choice (or ipc * classes of all)."""
        budget = self.budget(context, config, ipc)
        groups = groups_of(context, self.info.name, self.class_balanced(config))
        chosen = np.concatenate(per_group(groups, lambda group: group.members[self.order(group, config, budget)]))
        return kept_images(context, chosen)


class DistanceMethod(FeatureMethod[DistanceT]):
    """Base of the methods that rank all images by their distance from a prototype."""

    @abstractmethod
    def scores(self, context: MethodContext, config: DistanceT) -> NDArray[np.float64]:
        """Return the distance of every training image, float64 [N]; high = hard."""

    def compress(self, context: MethodContext, config: DistanceT, ipc: int, seed: int) -> Compressed:
        """Choose the `ipc` nearest (or farthest) images of every class, or ipc * classes of all."""
        self.budget(context, config, ipc)
        scores = self.scores(context, config) if context.scores is None else context.scores
        chosen = select_among(scores, context.labels, len(context.classes), ipc, config.keep, config.balanced)
        return kept_images(context, chosen, scores)
