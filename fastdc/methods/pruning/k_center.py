"""k-Center greedy: each image as far as possible from those already kept (Sener & Savarese 2018)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.bases.feature_methods import GeometryConfig, GreedyMethod, Group
from fastdc.methods.bases.literature import cited


class KCenter(GreedyMethod[GeometryConfig]):
    r"""Traverse the penultimate features farthest first, from the image nearest to the mean.

    Each pick is the image farthest from all earlier picks, so that no image lies far from a kept one. The cost is O(n
    D) per pick. Memory is O(n), one running minimum per image.

    $$j = \mathrm{argmax}_j \min_{i \in S} \lVert \varphi_j - \varphi_i \rVert_2$$

    Differences:
        * Published code starts at a random image. A start that depends only on the features needs no seed.
        * DeepCore's code keeps budget x n distances, which does not fit into memory for ImageNet.
    """

    info = cited("k_center", "k-Center greedy", "pruning", "sener2018active", needs=("features",))

    def order(self, group: Group, config: GeometryConfig, budget: int) -> NDArray[np.int64]:
        """Return positions as `k_center_order` chooses them."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.coverage import k_center_order

        return k_center_order(group.features(), budget)


METHOD = KCenter()
