"""Graph cut: images similar to the whole class but not to each other (submodular, as in DeepCore)."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods.bases.feature_methods import GeometryConfig, GreedyMethod, Group
from fastdc.methods.bases.literature import cited


class GraphCutConfig(GeometryConfig):
    """Settings of graph cut.

    Attributes:
        representation: weight of similarity to the whole group against dissimilarity among kept images (DeepCore's
            lambda, 1).
    """

    representation: float = Field(1.0, ge=0)


class GraphCut(GreedyMethod[GraphCutConfig]):
    r"""Pick greedily the image that is most similar to the whole class and least similar to the picks.

    Similarities are half of one plus the cosine of penultimate features. The cost is O(n D) per pick and O(n) memory.
    The global form (`balanced=false`) therefore needs no similarities of all pairs either.

    $$
    j = \mathrm{argmax}_j \; \lambda \sum_{i \in D_c} s_{ij} - 2 \sum_{i \in S} s_{ij},
    \quad s_{ij} = \tfrac{1}{2} + \tfrac{1}{2} \cos(\varphi_i, \varphi_j)
    $$

    Differences:
        DeepCore's default greedy need not end for this function. Plain greedy is used here.
    """

    info = cited("graph_cut", "Graph cut", "pruning", "iyer2021submodular", needs=("features",))

    def order(self, group: Group, config: GraphCutConfig, budget: int) -> NDArray[np.int64]:
        """Return positions as `graph_cut_order` chooses them."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.submodular import graph_cut_order

        return graph_cut_order(group.features(), config.representation, budget)


METHOD = GraphCut()
