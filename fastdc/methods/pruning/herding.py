"""Herding: images whose running mean follows the class mean (Welling 2009)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.bases.feature_methods import GeometryConfig, GreedyMethod, Group
from fastdc.methods.bases.method import MethodConfig, MethodInfo


class Herding(GreedyMethod):
    """Pick argmin_j ||mu - (sum of picked + phi_j) / (|S| + 1)|| at each step, on the penultimate features.

    `balanced=false` follows the mean of the whole set. The cost is O(n D) per pick.
    """

    info = MethodInfo(
        name="herding",
        title="Herding",
        family="pruning",
        paper="Herding Dynamical Weights to Learn",
        year=2009,
        bibtex=(
            "@inproceedings{welling2009herding,\n"
            "  title={Herding Dynamical Weights to Learn},\n"
            "  author={Welling, Max},\n"
            "  booktitle={International Conference on Machine Learning},\n"
            "  year={2009}\n"
            "}"
        ),
        needs=("features",),
    )
    config_class = GeometryConfig

    def order(self, group: Group, config: MethodConfig, budget: int) -> NDArray[np.int64]:
        """Return positions as `herding_order` chooses them."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.coverage import herding_order

        return herding_order(group.features(), budget)


METHOD = Herding()
