"""PCA: Prune, Combine, Augment (Xiao et al., arXiv 2502.06434). The paper's own method.

Prune: the easy end of EL2N over the full training set, the same number of every class.
Combine: whole images, nothing cropped away, shrunk and tiled grid x grid into each stored image.
Augment: training crops inside one uniformly chosen tile; that rule travels as the hint `tile_grid`.
The authors released no code for it: settings marked "inferred" are our reading of the paper and its reviews.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods.base import (
    Compressed,
    Fit,
    Method,
    MethodConfig,
    MethodContext,
    MethodInfo,
    Mosaic,
    check_budget,
    inferred_settings,
)
from fastdc.methods.benchmark import BIBTEX, TITLE
from fastdc.methods.el2n import EL2NRanking, el2n_scores
from fastdc.methods.mosaics import make_mosaics
from fastdc.methods.selection import select


class PCAConfig(EL2NRanking):
    """Settings of PCA: those of its EL2N ranking, and the grid.

    Attributes:
        grid: tiles per side; each stored image holds grid**2 whole source images (2 is inferred).
        fit: how a source fills its tile; `squash` keeps all of it, which is the method's point (inferred).
    """

    grid: int = Field(2, ge=1, le=8, description="inferred")
    fit: Fit = Field("squash", description="inferred")


class PCA(Method):
    """EL2N-easy images, tiled whole, cropped inside a tile, hard labels only."""

    info = MethodInfo(
        name="pca",
        title="PCA",
        family="combination",
        paper=TITLE,
        year=2025,
        bibtex=BIBTEX,
        needs=("dynamics",),
        published={
            "imagenet1k/resnet18/hard/ipc10": 22.8,
            "imagenet1k/resnet18/hard/ipc50": 39.1,
            "imagenet1k/resnet18/hard/ipc100": 45.5,
        },
    )
    config_class = PCAConfig

    def images_needed(self, config: MethodConfig, ipc: int) -> int:
        """grid**2 sources for each stored image."""
        assert isinstance(config, PCAConfig)
        return ipc * config.grid**2

    def observer_epochs(self, config: MethodConfig) -> int:
        """The last epoch of the ranking's window."""
        assert isinstance(config, PCAConfig)
        return config.last_epoch

    def scores(self, context: MethodContext, config: MethodConfig) -> NDArray[np.float64]:
        """EL2N of every training image, float64 [N]; see `el2n_scores`."""
        assert isinstance(config, PCAConfig)
        return el2n_scores(context.observations, config.first_epoch, config.last_epoch)

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """`ipc` mosaics of every class; the easiest grid**2 sources make the first one, and so on."""
        assert isinstance(config, PCAConfig)
        tiles = config.grid**2
        check_budget(self, config, context.classes, context.counts, ipc)
        scores = self.scores(context, config) if context.scores is None else context.scores
        chosen = select(scores, context.labels, ipc * tiles, config.keep, balanced=True)
        sources = chosen.reshape(-1, tiles)
        mosaic = Mosaic(grid=config.grid, fit=config.fit)
        return Compressed(
            labels=context.labels[sources[:, 0]],
            sources=sources,
            images=partial(make_mosaics, context.image, sources, context.image_size, mosaic),
            mosaic=mosaic,
            hints={"tile_grid": config.grid} if config.grid > 1 else {},
            details={
                "score_min": float(scores[chosen].min()),
                "score_max": float(scores[chosen].max()),
                "inferred": {name: getattr(config, name) for name in inferred_settings(PCAConfig)},
            },
        )


METHOD = PCA()
