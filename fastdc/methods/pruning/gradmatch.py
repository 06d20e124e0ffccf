"""GradMatch: images whose weighted gradients sum to the class's mean gradient (Killamsetty et al. 2021)."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods.bases.feature_methods import GreedyMethod, Group
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method_config import MethodConfig


class GradMatchConfig(MethodConfig):
    """Settings of GradMatch.

    Attributes:
        ridge: weight of ||w||^2 beside the squared error of the mean gradient. DeepCore's lambda is 1, but its loss has
            already divided the gradients by the batch size. Products of gradients are rounded by about 1e-7 of their
            squared lengths. A ridge too small to keep the system solvable is refused.
    """

    ridge: float = Field(1.0, ge=1e-6)


class GradMatch(GreedyMethod[GradMatchConfig]):
    r"""Match the mean last-layer gradient by orthogonal matching pursuit with non-negative weights, class by class.

    Each pick is the image whose gradient fits what the weighted picks still miss of the class's mean gradient.
    Non-negative weights are refitted at each pick. There is no global form: ipc * classes picks would take n * picks
    inner products, and a refit of all weights at each pick.

    $$
    \min_{S, \, w \geq 0} \left\lVert \frac{1}{n} \sum_{i \in D_c} g_i - \sum_{j \in S} w_j g_j \right\rVert_2,
    \quad g = (p - e_y) \otimes (h, 1)
    $$

    Differences:
        * DeepCore's code enforces the sign of the weights only at the end, and then keeps fewer images than requested.
        * The weights serve only the choice, because the benchmark trains every method's images alike.
    """

    info = cited("gradmatch", "GradMatch", "pruning", "killamsetty2021gradmatch", needs=("features", "outputs"))

    def order(self, group: Group, config: GradMatchConfig, budget: int) -> NDArray[np.int64]:
        """Return positions as `matching_order` chooses them."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.gradient_matching import matching_order
        from fastdc.kernels.geometry.similarity import GradientProducts, kept_when_small

        products = kept_when_small(GradientProducts(group.residuals(), group.features()))
        return matching_order(products, config.ridge, budget)[0]


METHOD = GradMatch()
