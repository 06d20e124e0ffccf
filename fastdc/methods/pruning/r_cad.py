"""R-CAD: images that cover their class, with more weight on images that vary (andriotis/ca2d, 2026)."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods.bases.feature_methods import FeatureMethod, Group, groups_of, per_group
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import Compressed, MethodContext
from fastdc.methods.bases.score_methods import mean_over_runs
from fastdc.methods.bases.selection import kept_images
from fastdc.methods.pruning.cad_prune import CADSettings, Reading
from fastdc.observe.record_needs import ObserverNeeds


class RCADConfig(CADSettings):
    """Settings of R-CAD: those of CAD, which gives the weights.

    Attributes:
        reading: see `cad_prune`; R-CAD's own code weights by `el2n`.
        last_epoch, window, last_windows: see `cad_prune`.
    """

    reading: Reading = "el2n"
    last_epoch: int = Field(8, ge=2, description="inferred")


class RCAD(FeatureMethod[RCADConfig]):
    r"""Cover each class as facility location does, with more weight on images that vary, by lazy greedy.

    The weight is CAD of the first K epochs, averaged over the observer runs. The features are the penultimate ones of
    the first run at the end of its training. With equal weights this is facility location; there is no global form
    either.

    $$S = \mathrm{argmax}_S \sum_{i \in D_c} \mathrm{CAD}_i \max_{j \in S} \max(0, \cos(\varphi_i, \varphi_j))$$

    Differences:
        R-CAD's own code takes the features of another finished network, and CAD of a training that ends at K.
    """

    info = cited("r_cad", "R-CAD", "pruning", "andriotis2026rcad", needs=("dynamics", "features"))

    def shortest_log(self, config: RCADConfig) -> int:
        """Return the epochs of CAD's windows."""
        return config.shortest

    def observer_needs(self, config: RCADConfig) -> ObserverNeeds:
        """Return K epochs of the log, and the features at the end of the schedule."""
        return replace(super().observer_needs(config), epochs=config.last_epoch)

    def scores(self, context: MethodContext, config: RCADConfig) -> NDArray[np.float64]:
        """Return CAD of every training image, float64 [N]; high = hard."""
        return mean_over_runs(self.info.name, context.observations, lambda run: config.of_run(self.info.name, run))

    def compress(self, context: MethodContext, config: RCADConfig, ipc: int, seed: int) -> Compressed:
        """Choose `ipc` images of every class, each class in order of choice."""
        budget = self.budget(context, config, ipc)
        scores = self.scores(context, config) if context.scores is None else context.scores
        groups = groups_of(context, self.info.name, balanced=True)
        chosen = np.concatenate(per_group(groups, lambda group: group.members[weighted_cover(group, scores, budget)]))
        return kept_images(context, chosen, scores)


def weighted_cover(group: Group, scores: NDArray[np.float64], budget: int) -> NDArray[np.int64]:
    """Return `budget` positions in `group.members`, in order of choice.

    Args:
        scores: float64 [N], of the whole set: the weight of covering each image.
    """
    # Imported here because numba takes half a second to import.
    from fastdc.kernels.geometry.similarity import ClippedCosineSimilarity, kept_when_small
    from fastdc.kernels.geometry.submodular import facility_location_order

    similarity = kept_when_small(ClippedCosineSimilarity(group.features()))
    return facility_location_order(similarity, budget, scores[group.members])


METHOD = RCAD()
