"""CA2D: RDED's patches from a pool whose difficulty matches the student's training (Dey et al., CVPR 2026)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import MethodContext
from fastdc.methods.bases.method_config import Keep
from fastdc.methods.bases.patches import RDED_POOL, best_of_classes
from fastdc.methods.distillation.rded import PatchConfig, PatchMethod
from fastdc.methods.pruning.cad_prune import METHOD as CAD_PRUNE
from fastdc.methods.pruning.cad_prune import CADConfig, CADSettings


class CA2DConfig(CADSettings, PatchConfig):
    """Settings of CA2D: those of RDED, and those of CAD-Prune, which makes the pool.

    Attributes:
        pool: images per class that CAD-Prune keeps. The paper's size is unknown; RDED's stands in (inferred).
        keep, reading, last_epoch, window, last_windows: see `cad_prune`.
    """

    later_settings: ClassVar[tuple[str, ...]] = (*PatchConfig.later_settings, "reading")

    pool: int = Field(RDED_POOL, ge=1, description="inferred")
    keep: Keep = "hard"

    def pruning(self) -> CADConfig:
        """Return the settings that belong to CAD-Prune."""
        names = ("keep", "reading", "last_epoch", "window", "last_windows")
        return CADConfig(**{name: getattr(self, name) for name in names})


class CA2D(PatchMethod[CA2DConfig]):
    r"""Prune to a pool with CAD-Prune, then choose and tile crops as RDED does.

    CAD-Prune keeps the images whose predictions vary most at the end of a training as long as the student's. The paper
    states that crops are chosen and tiled as in RDED. The size of the pool, which decides how much of the choice is
    left to the teacher, is inferred.

    $$P_c = \mathrm{top}_{300} \, \mathrm{CAD}(D_c), \quad S_c = \mathrm{RDED}(P_c)$$

    Differences:
        The authors' code is not public. The paper leaves open what CAD measures; see the setting `reading`.
    """

    info = cited("ca2d", "CA2D", "distillation", "dey2026hard", needs=("dynamics", "teacher"), stochastic=True)

    def observer_epochs(self, config: CA2DConfig) -> int:
        """Return K of CAD-Prune; the teacher requests its own epochs."""
        return CAD_PRUNE.observer_epochs(config.pruning())

    def shortest_log(self, config: CA2DConfig) -> int:
        """Return the epochs of CAD-Prune's windows."""
        return CAD_PRUNE.shortest_log(config.pruning())

    def scores(self, context: MethodContext, config: CA2DConfig) -> NDArray[np.float64]:
        """Return CAD-Prune's scores, float64 [N], high = hard."""
        return CAD_PRUNE.scores(context, config.pruning())

    def pools(self, context: MethodContext, config: CA2DConfig, size: int, seed: int) -> Sequence[NDArray[np.int64]]:
        """Return `size` images of every class from the end of CAD-Prune's ranking that `keep` names."""
        scores = self.scores(context, config) if context.scores is None else context.scores
        # `best_of_classes` keeps the lowest values.
        return best_of_classes(context, -scores if config.keep == "hard" else scores, size)

    def more_details(self, config: CA2DConfig, image_size: int) -> dict[str, Any]:
        """Return the inferred settings with their values."""
        return {"inferred": {name: getattr(config, name) for name in self.inferred(config, image_size)}}


METHOD = CA2D()
