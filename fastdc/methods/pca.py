"""PCA: Prune, Combine, Augment (Xiao et al., arXiv 2502.06434). The paper's own method, each part a setting.

Prune: the easy end of EL2N over the full training set, the same number of every class.
Combine: whole images, nothing cropped away, shrunk and tiled grid x grid into each stored image.
Augment: training crops inside one uniformly chosen tile; that rule travels as hints (`fastdc.beton.hints`).
The authors released no code for it: settings marked "inferred" are our reading of the paper and its reviews.
"""

from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.beton.hints import TileCrop
from fastdc.errors import ConfigError
from fastdc.methods.base import (
    Compressed,
    Fit,
    Method,
    MethodConfig,
    MethodContext,
    MethodInfo,
    Mosaic,
    Resize,
    check_budget,
    inferred_settings,
)
from fastdc.methods.benchmark import BIBTEX, TITLE
from fastdc.methods.el2n import EL2NRanking, el2n_scores
from fastdc.methods.mosaics import make_mosaics
from fastdc.methods.scored import ScoreMethod
from fastdc.methods.selection import window_of_classes
from fastdc.observe.needs import ObserverNeeds
from fastdc.seeding import derive_seed

RANDOM, EL2N = "random", "el2n"
Order = Literal["rank", "spread", "random"]


class PCAConfig(EL2NRanking):
    """Settings of PCA: of its ranking, its mosaics, and the crops that training takes of them.

    Attributes:
        grid: tiles per side; each stored image holds grid**2 whole source images (2 is inferred).
        fit: how a source fills its tile; `squash` keeps all of it, which is the method's point (inferred).
        score: what ranks the images: `random`, or a method that ranks by a score (`el2n`, `aum`, `forgetting`, ...),
            at its default settings. first_epoch and last_epoch belong to `el2n`.
        offset: where the window of difficulty begins, in percent of a class from the end that `keep` names.
        pool: width of the window in percent of a class; the sources are drawn from it at random. 0 takes the images
            that follow `offset` in the ranking.
        order: which sources share a mosaic: `rank` those that follow each other, `spread` ranks i, n + i, 2n + i, ...
            of n mosaics as RDED does, `random` any.
        resize: how a source is shrunk: `antialias`, or `nearest` as RDED's and CIM's codes do.
        whole: share of training visits that crop from the whole mosaic, 0 to 1.
        align: share of the other visits whose window is a tile, 0 to 1; the rest take a tile-sized window anywhere.
        scale_min: smallest area of a crop as a share of its tile; null takes the protocol's.
    """

    later_settings: ClassVar[tuple[str, ...]] = (
        *("score", "offset", "pool", "order", "resize", "whole", "align", "scale_min"),
    )

    grid: int = Field(2, ge=1, le=8, description="inferred")
    fit: Fit = Field("squash", description="inferred")
    score: str = EL2N
    offset: float = Field(0.0, ge=0, le=100)
    pool: float = Field(0.0, ge=0, le=100)
    order: Order = "rank"
    resize: Resize = "antialias"
    whole: float = Field(0.0, ge=0, le=1)
    align: float = Field(1.0, ge=0, le=1)
    scale_min: float | None = Field(None, gt=0, le=1)

    def identity(self) -> dict[str, Any]:
        """See `MethodConfig.identity`; a score of another method is known by that method's version and settings."""
        values, scorer = super().identity(), _scorer(self)
        if scorer is None:
            return values
        return {**values, "scorer": {"version": scorer.version, "config": scorer.configure({}).identity()}}

    @property
    def tile_crop(self) -> TileCrop:
        """What training does with the mosaics."""
        if self.grid == 1:
            return TileCrop()
        scale = None if self.scale_min is None else (self.scale_min, 1.0)
        return TileCrop(self.grid, self.whole, self.align, scale)


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

    def configure(self, settings: Any) -> MethodConfig:
        """See `Method.configure`; refuses a score that does not exist, too."""
        config = super().configure(settings)
        _scorer(_own(config))
        return config

    def inferred(self, config: MethodConfig, image_size: int) -> tuple[str, ...]:
        """Name the settings whose value is our inference; the window of epochs only where EL2N is the score."""
        names = super().inferred(config, image_size)
        return names if _own(config).score == EL2N else tuple(name for name in names if not name.endswith("_epoch"))

    def images_needed(self, config: MethodConfig, ipc: int) -> int:
        """grid**2 sources for each stored image."""
        return ipc * _own(config).grid ** 2

    def observed(self, config: MethodConfig) -> bool:
        """Return whether a score is read; `random` reads none."""
        return _own(config).score != RANDOM

    def stochastic(self, config: MethodConfig) -> bool:
        """Return whether sources, or their order, are drawn."""
        own = _own(config)
        return own.score == RANDOM or own.pool > 0 or own.order == "random"

    def observer_epochs(self, config: MethodConfig) -> int:
        """The last epoch that the score reads."""
        own, scorer = _own(config), _scorer(_own(config))
        return own.last_epoch if scorer is None else scorer.observer_epochs(scorer.configure({}))

    def shortest_log(self, config: MethodConfig) -> int:
        """The shortest that the score can be computed from."""
        scorer = _scorer(_own(config))
        return super().shortest_log(config) if scorer is None else scorer.shortest_log(scorer.configure({}))

    def observer_needs(self, config: MethodConfig) -> ObserverNeeds:
        """What the score reads."""
        own, scorer = _own(config), _scorer(_own(config))
        if own.score == RANDOM:
            return ObserverNeeds()
        return super().observer_needs(config) if scorer is None else scorer.observer_needs(scorer.configure({}))

    def scores(self, context: MethodContext, config: MethodConfig) -> NDArray[np.float64] | None:
        """The ranking's score of every training image, float64 [N], high = hard; None for `random`."""
        own, scorer = _own(config), _scorer(_own(config))
        if own.score == RANDOM:
            return None
        if scorer is None:
            return el2n_scores(context.observations, own.first_epoch, own.last_epoch)
        return scorer.scores(context, scorer.configure({}))

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """`ipc` mosaics of every class."""
        own = _own(config)
        check_budget(self, config, context.classes, context.counts, ipc)
        scores = self.scores(context, config) if context.scores is None else context.scores
        tiles = own.grid**2
        pools = window_of_classes(
            scores, context.labels, len(context.classes), ipc * tiles,
            keep=own.keep, offset=own.offset, pool=own.pool, seed=derive_seed(seed, "pca window"),
        )  # fmt: skip
        sources = np.concatenate([_mosaic_rows(pool, tiles, own, seed, label) for label, pool in enumerate(pools)])
        mosaic = Mosaic(grid=own.grid, fit=own.fit, resize=own.resize)
        return Compressed(
            labels=context.labels[sources[:, 0]],
            sources=sources,
            images=partial(make_mosaics, context.image, sources, context.image_size, mosaic),
            mosaic=mosaic,
            hints=own.tile_crop.hints,
            details={
                **_range(scores, sources),
                "inferred": {name: getattr(own, name) for name in inferred_settings(PCAConfig)},
            },
        )


def _own(config: MethodConfig) -> PCAConfig:
    assert isinstance(config, PCAConfig)
    return config


def _scorer(config: PCAConfig) -> ScoreMethod | None:
    """The method whose score ranks the images; None for `el2n`, whose window is a setting, and `random`.

    Raises:
        ConfigError: there is no such score.
    """
    if config.score in (EL2N, RANDOM):
        return None
    from fastdc.methods import get_method

    found = get_method(config.score)
    if not isinstance(found, ScoreMethod):
        raise ConfigError(f"method pca: score={config.score}: ranks no images by a score; take {EL2N}, aum, forgetting")
    return found


def _mosaic_rows(pool: NDArray[np.int64], tiles: int, config: PCAConfig, seed: int, label: int) -> NDArray[np.int64]:
    """The sources of each mosaic of one class, int64 [ipc, tiles]."""
    if config.order == "spread":
        return pool.reshape(tiles, -1).T
    if config.order == "random":
        pool = np.random.Generator(np.random.PCG64([derive_seed(seed, "pca order"), label])).permutation(pool)
    return pool.reshape(-1, tiles)


def _range(scores: NDArray[np.float64] | None, sources: NDArray[np.int64]) -> dict[str, float]:
    """The lowest and highest score of what was chosen, for the manifest."""
    if scores is None:
        return {}
    return {"score_min": float(scores[sources].min()), "score_max": float(scores[sources].max())}


METHOD = PCA()
