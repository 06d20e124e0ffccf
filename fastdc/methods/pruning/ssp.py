"""SSP: distance to the nearest of k prototypes that are found without labels (Sorscher et al. 2022)."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.common.keys import derive_seed
from fastdc.methods.bases.feature_methods import DistanceConfig, DistanceMethod, groups_of
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext


class SSPConfig(DistanceConfig):
    """Settings of SSP.

    Attributes:
        clusters: number of prototypes k; 0 takes the number of classes, as the paper does on ImageNet.
        max_iterations: maximum of k-means iterations (inferred). It stops earlier if no image changes its cluster.
        kmeans_seed: seed of k-means++ (inferred). It is part of the score, which the subset seed does not change.
    """

    clusters: int = Field(0, ge=0)
    max_iterations: int = Field(50, ge=1, description="inferred")
    kmeans_seed: int = Field(0, ge=0, description="inferred")


class SSP(DistanceMethod[SSPConfig]):
    r"""Rank images by the distance to the nearest centroid of spherical k-means over all images.

    The centroids are found without labels, as many as there are classes. Images near a centroid are typical, those far
    from every one are not. Initial centroids are drawn by sample number, so the same images in another order may give
    others.

    $$s_i = 1 - \max_k \cos(\varphi_i, \mu_k)$$

    Differences:
        The paper clusters SwAV's self-supervised features. Here the features are the observer's, which was trained with
        labels.
    """

    info = cited("ssp", "Self-supervised prototypes", "pruning", "sorscher2022beyond", needs=("features",))

    def scores(self, context: MethodContext, config: SSPConfig) -> NDArray[np.float64]:
        """Return the distance of every training image to the nearest prototype, float64 [N], 0 to 2; high = hard."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.clusters import spherical_kmeans

        (everything,) = groups_of(context, self.info.name, balanced=False)
        clusters = config.clusters or len(context.classes)
        seed = derive_seed(config.kmeans_seed, "ssp k-means")
        found = spherical_kmeans(everything.features(), clusters, seed, config.max_iterations)
        return 1.0 - found.cosines


METHOD = SSP()
