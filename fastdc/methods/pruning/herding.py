"""Herding: images whose running mean follows the class mean (Welling 2009)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.bases.feature_methods import GeometryConfig, GreedyMethod, Group
from fastdc.methods.bases.literature import cited


class Herding(GreedyMethod[GeometryConfig]):
    r"""Pick images so that their mean feature follows the class mean.

    Each step adds the image that brings the mean of the picks closest to the mean of the class. Features are the
    trained observer's penultimate ones. `balanced=false` follows the mean of the whole set; the cost is O(n D) per
    pick.

    $$j = \mathrm{argmin}_j \left\lVert \mu - \frac{\varphi_j + \sum_{i \in S} \varphi_i}{|S| + 1} \right\rVert_2$$

    Differences:
        DeepCore's code takes the farthest image at each step, an error of sign.
    """

    info = cited("herding", "Herding", "pruning", "welling2009herding", needs=("features",))

    def order(self, group: Group, config: GeometryConfig, budget: int) -> NDArray[np.int64]:
        """Return positions as `herding_order` chooses them."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.coverage import herding_order

        return herding_order(group.features(), budget)


METHOD = Herding()
