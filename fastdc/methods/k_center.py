"""k-Center greedy: each image as far as can be from those already kept (Sener & Savarese 2018)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.base import MethodConfig, MethodInfo
from fastdc.methods.geometry import GeometryConfig, GreedyMethod, Group


class KCenter(GreedyMethod):
    """Farthest-first traversal of the penultimate features, started at the image nearest to the mean.

    Published codes start at a random image; a start that depends on the features alone needs no seed. Cost O(n D) per
    pick and one running minimum per image: O(n) memory (DeepCore keeps budget x n distances).
    """

    info = MethodInfo(
        name="k_center",
        title="k-Center greedy",
        family="pruning",
        paper="Active Learning for Convolutional Neural Networks: A Core-Set Approach",
        year=2018,
        bibtex=(
            "@inproceedings{sener2018active,\n"
            "  title={Active Learning for Convolutional Neural Networks: A Core-Set Approach},\n"
            "  author={Sener, Ozan and Savarese, Silvio},\n"
            "  booktitle={International Conference on Learning Representations},\n"
            "  year={2018}\n"
            "}"
        ),
        needs=("features",),
    )
    config_class = GeometryConfig

    def order(self, group: Group, config: MethodConfig, budget: int) -> NDArray[np.int64]:
        """Positions as `k_center_order` chooses them."""
        from fastdc.kernels.coverage import k_center_order  # numba takes half a second to import

        return k_center_order(group.features(), budget)


METHOD = KCenter()
