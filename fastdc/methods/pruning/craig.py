"""CRAIG: images whose gradients represent those of the whole class (Mirzasoleiman et al. 2020)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.bases.feature_methods import GreedyMethod, Group
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method_config import MethodConfig


class Craig(GreedyMethod):
    r"""Maximise facility location over last-layer gradients, by lazy greedy, class by class.

    Images whose gradients represent those of the whole class are kept. The gradient g is that of the cross entropy at
    the trained observer, as in DeepCore. As for facility location, there is no global form.

    $$
    S = \mathrm{argmax}_S \sum_{i \in D_c} \max_{j \in S} (C - \lVert g_i - g_j \rVert_2),
    \quad g = (p - e_y) \otimes (h, 1)
    $$

    Differences:
        The paper's weights (cluster sizes) are not kept, because the benchmark trains every method's images alike.
    """

    info = cited("craig", "CRAIG", "pruning", "mirzasoleiman2020coresets", needs=("features", "outputs"))

    def order(self, group: Group, config: MethodConfig, budget: int) -> NDArray[np.int64]:
        """Return positions as `facility_location_order` chooses them."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.similarity import GradientProducts, GradientSimilarity, kept_when_small
        from fastdc.kernels.geometry.submodular import facility_location_order

        gradients = GradientProducts(group.residuals(), group.features())
        return facility_location_order(kept_when_small(GradientSimilarity(gradients)), budget)


METHOD = Craig()
