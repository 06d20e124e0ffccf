"""Graph cut: images similar to the whole class but not to each other (submodular, as in DeepCore)."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods.bases.feature_methods import GeometryConfig, GreedyMethod, Group
from fastdc.methods.bases.method import MethodConfig, MethodInfo
from fastdc.methods.pruning.facility_location import METHOD as FACILITY_LOCATION


class GraphCutConfig(GeometryConfig):
    """Settings of graph cut.

    Attributes:
        representation: weight of similarity to the whole group against dissimilarity among kept images (DeepCore's
            lambda, 1).
    """

    representation: float = Field(1.0, ge=0)


class GraphCut(GreedyMethod):
    """Pick greedily the j with the largest lambda * sum over all i of s_ij - 2 * sum over kept i of s_ij.

    s = 1/2 + cos/2 of penultimate features. The cost is O(n D) per pick and O(n) memory. The global form
    (`balanced=false`) therefore needs no similarities of all pairs either.
    """

    info = MethodInfo(
        name="graph_cut",
        title="Graph cut",
        family="pruning",
        paper=FACILITY_LOCATION.info.paper,
        year=FACILITY_LOCATION.info.year,
        bibtex=FACILITY_LOCATION.info.bibtex,
        needs=("features",),
    )
    config_class = GraphCutConfig

    def order(self, group: Group, config: MethodConfig, budget: int) -> NDArray[np.int64]:
        """Return positions as `graph_cut_order` chooses them."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.submodular import graph_cut_order

        assert isinstance(config, GraphCutConfig)
        return graph_cut_order(group.features(), config.representation, budget)


METHOD = GraphCut()
