"""Graph cut: images like the whole class and unlike each other (submodular, as in DeepCore)."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods.base import MethodConfig, MethodInfo
from fastdc.methods.facility_location import METHOD as FACILITY_LOCATION
from fastdc.methods.geometry import GeometryConfig, GreedyMethod, Group


class GraphCutConfig(GeometryConfig):
    """Settings of graph cut.

    Attributes:
        representation: weight of being like the whole group against being unlike what is kept (DeepCore's lambda, 1).
    """

    representation: float = Field(1.0, ge=0)


class GraphCut(GreedyMethod):
    """Greedy on lambda * sum over all i of s_ij - 2 * sum over kept i of s_ij, s = 1/2 + cos/2 of penultimate features.

    O(n D) per pick and O(n) memory, so the global form (`balanced=false`) needs no similarities of all pairs either.
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
        """Positions as `graph_cut_order` chooses them."""
        from fastdc.kernels.submodular import graph_cut_order  # numba takes half a second to import

        assert isinstance(config, GraphCutConfig)
        return graph_cut_order(group.features(), config.representation, budget)


METHOD = GraphCut()
