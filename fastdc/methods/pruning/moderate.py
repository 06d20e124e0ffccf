"""Moderate: images at a medium distance from the median of their class (Xia et al. 2023)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.bases.feature_methods import FeatureMethod, GeometryConfig, Group, groups_of, within_classes
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import Compressed, MethodContext
from fastdc.methods.bases.selection import kept_images


class Moderate(FeatureMethod[GeometryConfig]):
    r"""Keep the images whose distance from their class's median is around the median distance.

    The median of a class is taken per feature. The kept band is the central `ipc` ranks of the distance, nearest to the
    middle rank first. With `balanced=false` the band is of all images, but every class keeps its own median.

    $$d_i = \lVert \varphi_i - \mathrm{median}(\varphi_{D_{y_i}}) \rVert_2, \quad S_c = \text{central ranks of } d$$

    Differences:
        The authors' code takes one band of all images. The default is a band of each class, as in the paper.
    """

    info = cited("moderate", "Moderate", "pruning", "xia2023moderate", needs=("features",))

    def scores(self, context: MethodContext, config: GeometryConfig) -> NDArray[np.float64]:
        """Return the distance of every training image to its class's median, float64 [N]; high = atypical."""
        return within_classes(context, self.info.name, median_distances)

    def compress(self, context: MethodContext, config: GeometryConfig, ipc: int, seed: int) -> Compressed:
        """Choose the middle of the ranking by distance, of every class or of all images."""
        budget = self.budget(context, config, ipc)
        scores = self.scores(context, config) if context.scores is None else context.scores
        groups = groups_of(context, self.info.name, self.class_balanced(config))
        chosen = np.concatenate([g.members[central_order(scores[g.members], budget)] for g in groups])
        return kept_images(context, chosen, scores)


def median_distances(group: Group) -> NDArray[np.float64]:
    """Return the distance of every member to the group's per-feature median, float64 [n]."""
    # Imported here because numba takes half a second to import.
    from fastdc.kernels.geometry.products import pack

    rows = group.rows()
    panels = pack(rows, group.workers)
    center = np.zeros(panels.tiles.shape[1])  # panels are padded with zeros beyond the D features
    median = np.median(rows, axis=0)
    center[: median.size] = median
    return np.sqrt(panels.squared_distances(center))


def central_order(distances: NDArray[np.float64], budget: int) -> NDArray[np.int64]:
    """Return the positions of the `budget` central ranks of `distances` [n], the middle rank first, then outwards.

    With n samples sorted by distance (ties by index), these ranks start at floor((n - budget) / 2). They are the
    quantile band [1/2 - r/2, 1/2 + r/2] for r = budget / n. Of two ranks equally far from the middle, the lower comes
    first.
    """
    sorted_positions = np.argsort(distances, kind="stable")
    ranks = np.arange(distances.size)
    # Twice the distance to the middle rank, which is a half-integer for even sizes.
    outwards = np.argsort(np.abs(2 * ranks - (distances.size - 1)), kind="stable")
    return sorted_positions[outwards[:budget]].astype(np.int64)


METHOD = Moderate()
