"""CRAIG: images whose gradients represent those of the whole class (Mirzasoleiman et al. 2020)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.bases.feature_methods import GreedyMethod, Group
from fastdc.methods.bases.method import MethodConfig, MethodInfo


class Craig(GreedyMethod):
    """Maximise facility location over last-layer gradients, by lazy greedy, class by class.

    Similarities are s_ij = c - ||g_i - g_j||_2. g = (softmax - onehot) x (features, 1) is the gradient of the
    cross-entropy at the trained observer, as in DeepCore. The paper's weights (cluster sizes) are not kept, because the
    benchmark trains every method's images alike. As for facility location, there is no global form.
    """

    info = MethodInfo(
        name="craig",
        title="CRAIG",
        family="pruning",
        paper="Coresets for Data-efficient Training of Machine Learning Models",
        year=2020,
        bibtex=(
            "@inproceedings{mirzasoleiman2020coresets,\n"
            "  title={Coresets for Data-efficient Training of Machine Learning Models},\n"
            "  author={Mirzasoleiman, Baharan and Bilmes, Jeff and Leskovec, Jure},\n"
            "  booktitle={International Conference on Machine Learning},\n"
            "  year={2020}\n"
            "}"
        ),
        needs=("features", "outputs"),
    )

    def order(self, group: Group, config: MethodConfig, budget: int) -> NDArray[np.int64]:
        """Return positions as `facility_location_order` chooses them."""
        # Imported here because numba takes half a second to import.
        from fastdc.kernels.geometry.similarity import GradientProducts, GradientSimilarity, kept_when_small
        from fastdc.kernels.geometry.submodular import facility_location_order

        gradients = GradientProducts(group.residuals(), group.features())
        return facility_location_order(kept_when_small(GradientSimilarity(gradients)), budget)


METHOD = Craig()
