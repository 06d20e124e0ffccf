"""Supervised prototypes: distance to the mean direction of an image's own class (Sorscher et al. 2022)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.bases.feature_methods import DistanceConfig, DistanceMethod, Group, within_classes
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext


class Prototypes(DistanceMethod[DistanceConfig]):
    r"""Rank images by the distance to their class's prototype: SSP with classes in place of clusters.

    A prototype is the mean direction of a class's features. Images near it are typical of their class. Features are the
    trained observer's penultimate ones.

    $$
    s_i = 1 - \cos(\varphi_i, \mu_{y_i}),
    \quad \mu_c = \mathrm{mean}_{i \in D_c} \frac{\varphi_i}{\lVert \varphi_i \rVert_2}
    $$
    """

    info = cited("prototypes", "Supervised prototypes", "pruning", "sorscher2022beyond", needs=("features",))

    def scores(self, context: MethodContext, config: DistanceConfig) -> NDArray[np.float64]:
        """Return the distance of every training image to its class's prototype, float64 [N], 0 to 2; high = hard."""
        return within_classes(context, self.info.name, prototype_distances)


def prototype_distances(group: Group) -> NDArray[np.float64]:
    """Return 1 - cos(phi, mean direction) of every member, float64 [n]; a zero vector has cosine 0 with all."""
    features = group.features()
    prototype = features.normalised().total()
    squares = features.squared_norms() * (prototype * prototype).sum()
    dots = features.dots(prototype)  # of unscaled features, because unit vectors are rounded to float32
    np.divide(dots, np.sqrt(squares), out=dots, where=squares > 0)  # elsewhere the product is already 0
    return 1.0 - np.clip(dots, -1.0, 1.0, out=dots)


METHOD = Prototypes()
