"""GradMatch: kept images whose weighted gradients sum to the class's mean gradient (Killamsetty et al. 2021)."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods.base import MethodConfig, MethodInfo
from fastdc.methods.geometry import GreedyMethod, Group


class GradMatchConfig(MethodConfig):
    """Settings of GradMatch.

    Attributes:
        ridge: weight of ||w||^2 beside the squared error of the mean gradient (DeepCore's lambda, 1, which meets
            gradients that its loss has divided by the batch). The gradients' products are rounded by about 1e-7 of
            their squared lengths; a ridge too small to keep the system solvable is refused.
    """

    ridge: float = Field(1.0, ge=1e-6)


class GradMatch(GreedyMethod):
    """Orthogonal matching pursuit with non-negative weights on the last layer's gradients, class by class.

    g = (softmax - onehot) x (features, 1), at the trained observer. Weights are refitted, non-negative, at each pick
    (DeepCore makes them so only at the end, and then keeps fewer images than asked for). They serve the choice and are
    not kept: the benchmark trains every method's images alike. There is no global form: ipc * classes picks would take
    n * picks inner products, and weights of all picks to refit at each.
    """

    info = MethodInfo(
        name="gradmatch",
        title="GradMatch",
        family="pruning",
        paper="GRAD-MATCH: Gradient Matching based Data Subset Selection for Efficient Deep Model Training",
        year=2021,
        bibtex=(
            "@inproceedings{killamsetty2021gradmatch,\n"
            "  title={GRAD-MATCH: Gradient Matching based Data Subset Selection for Efficient Deep Model Training},\n"
            "  author={Killamsetty, Krishnateja and Sivasubramanian, Durga and Ramakrishnan, Ganesh and De, Abir and "
            "Iyer, Rishabh},\n"
            "  booktitle={International Conference on Machine Learning},\n"
            "  year={2021}\n"
            "}"
        ),
        needs=("features", "outputs"),
    )
    config_class = GradMatchConfig

    def order(self, group: Group, config: MethodConfig, budget: int) -> NDArray[np.int64]:
        """Positions as `matching_order` chooses them."""
        # numba takes half a second to import
        from fastdc.kernels.matching import matching_order
        from fastdc.kernels.similarity import GradientProducts, kept_when_small

        assert isinstance(config, GradMatchConfig)
        products = kept_when_small(GradientProducts(group.residuals(), group.features()))
        return matching_order(products, config.ridge, budget)[0]


METHOD = GradMatch()
