"""Facility location: keep an image similar to every image of a class (submodular coverage, as in DeepCore)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.bases.feature_methods import GreedyMethod, Group
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method_config import MethodConfig


class FacilityLocationConfig(MethodConfig):
    """Settings of facility location.

    Attributes:
        metric: similarity of two images: `cosine`, 1/2 + cos/2 as in DeepCore, or `gaussian`, exp(-d^2 / mean d^2 of
            all pairs) (inferred).
    """

    metric: Literal["cosine", "gaussian"] = "cosine"


class FacilityLocation(GreedyMethod[FacilityLocationConfig]):
    r"""Maximise the sum over all images of the similarity to the nearest kept one, by lazy greedy, class by class.

    An image is worth keeping if it resembles images that no kept one resembles. Similarities s_ij are between
    penultimate features of the trained observer. There is no global form, because it would take n^2 similarities of the
    whole set, 1.6e12 on ImageNet.

    $$S = \mathrm{argmax}_S \sum_{i \in D_c} \max_{j \in S} s_{ij}$$

    Differences:
        DeepCore's code takes last-layer gradients in place of features, as `craig` does here.
    """

    info = cited("facility_location", "Facility location", "pruning", "iyer2021submodular", needs=("features",))

    def order(self, group: Group, config: FacilityLocationConfig, budget: int) -> NDArray[np.int64]:
        """Return positions as `facility_location_order` chooses them."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.similarity import CosineSimilarity, GaussianSimilarity, kept_when_small
        from fastdc.kernels.geometry.submodular import facility_location_order

        measure = CosineSimilarity if config.metric == "cosine" else GaussianSimilarity
        return facility_location_order(kept_when_small(measure(group.features())), budget)


METHOD = FacilityLocation()
