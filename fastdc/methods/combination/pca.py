"""PCA: Prune, Combine, Augment (Xiao et al., arXiv 2502.06434), the paper's own method; each part is a setting."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fastdc.beton.hints import MAX_VIEWS, TileCrop
from fastdc.common.errors import MethodError
from fastdc.common.keys import derive_seed
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import Compressed, Method, MethodContext, Mosaic, check_budget
from fastdc.methods.bases.method_config import Fit, Resize
from fastdc.methods.bases.mosaics import make_mosaics
from fastdc.methods.bases.selection import score_range, window_of_classes
from fastdc.methods.bases.source_ranking import EL2N, RANDOM, TEACHER, Ranking, ranking_of
from fastdc.methods.bases.teacher_methods import TeacherConfig
from fastdc.methods.pruning.el2n import EL2NRanking
from fastdc.observe.record_needs import ObserverNeeds

Order = Literal["rank", "spread", "random"]
CROPS = {"whole": "whole", "align": "align", "scale_min": "scale", "scale_max": "scale"}
"""Field of `TileCrop` that each setting of the crops belongs to."""


class PCAConfig(EL2NRanking, TeacherConfig):
    """Settings of PCA: those of its ranking, of its mosaics, and of the crops that training takes of them.

    A setting that has no effect beside the others is refused, because its row would repeat another.

    Attributes:
        keep: end of the ranking at which the window begins; `easy` is the paper's.
        grid: tiles per side; each stored image holds grid**2 whole source images (2 is inferred).
        fit: how a source fills its tile; `squash` keeps the whole source, as the method intends (inferred).
        score: score that ranks the images (`source_ranking`); first_epoch and last_epoch belong to `el2n`.
        teachers: networks of score=teacher.
        offset: start of the window of difficulty, in percent of a class from the end that `keep` names.
        pool: width of the window in percent of a class; the sources are drawn from it at random. 0 takes the images
            that follow `offset` in the ranking.
        order: which sources share a mosaic (inferred): `rank` groups consecutive ranks; `spread` groups ranks i, n + i,
            2n + i, ... of n mosaics, as RDED does; `random` groups any.
        resize: how a source is shrunk: `antialias`, or `nearest` as in RDED's and CIM's code (inferred).
        whole: share of training visits that crop from the whole mosaic, 0 to 1; the paper's is 0.
        align: share of the other visits whose window is a tile, 0 to 1; the paper's is 1. The rest take a tile-sized
            window at any position.
        scale_min: smallest area of a crop as a share of its tile; null takes the protocol's (inferred).
        scale_max: largest area of a crop as a share of its tile; read only with scale_min.
        views: visits to each stored image in an epoch, each with its own crop; the paper's is 1. The steps of an epoch
            grow by this factor.
        augment: not available; use whole, align, scale_min, scale_max and views.
    """

    later_settings: ClassVar[tuple[str, ...]] = (
        *("score", "offset", "pool", "order", "resize", "whole", "align", "scale_min"),
        *("scale_max", "views", "teachers"),
    )

    grid: int = Field(2, ge=1, le=8, description="inferred")
    fit: Fit = Field("squash", description="inferred")
    score: str = EL2N
    offset: float = Field(0.0, ge=0, le=100)
    pool: float = Field(0.0, ge=0, le=100)
    order: Order = Field("rank", description="inferred")
    resize: Resize = Field("antialias", description="inferred")
    whole: float = Field(0.0, ge=0, le=1)
    align: float = Field(1.0, ge=0, le=1)
    scale_min: float | None = Field(None, gt=0, le=1, description="inferred")
    scale_max: float = Field(1.0, gt=0, le=1)
    views: int = Field(1, ge=1, le=MAX_VIEWS)

    @model_validator(mode="after")
    def _settings_are_read(self) -> Self:
        self.refuse_unread(self.unread)
        if self.scale_min is None and self.scale_max != 1:
            raise ValueError(f"scale_max={self.scale_max} needs scale_min: without it both ends are the protocol's")
        if self.scale_min is not None and self.scale_min > self.scale_max:
            raise ValueError(f"scale_min={self.scale_min} is above scale_max={self.scale_max}")
        return self

    @property
    def unread(self) -> dict[str, str]:
        """Return the settings that have no effect beside the others, each with the reason."""
        crops = TileCrop(self.grid, self.whole).unread
        unread = {name: crops[field] for name, field in CROPS.items() if field in crops}
        unread["augment"] = "beside pca's own crops: whole, align, scale_min, scale_max and views"
        if self.grid == 1:
            unread["order"] = "with grid=1, where a stored image has one source"
        if self.score == RANDOM:
            drawn = "with score=random: sources are drawn from the whole class, in random order"
            unread |= dict.fromkeys(("keep", "offset", "pool", "order"), drawn)
        elif self.pool == 100:
            unread["offset"] = "with pool=100, which is the whole class"
        if self.score != EL2N:
            why = f"with score={self.score}: it is the window of el2n; other scores take theirs as aum+last_epoch=30"
            unread |= dict.fromkeys(("first_epoch", "last_epoch"), why)
        if self.score != TEACHER:
            unread["teachers"] = f"with score={self.score}: only score=teacher runs networks"
        return unread

    @property
    def ranking(self) -> Ranking:
        """Return the ranking of the sources.

        Raises:
            ConfigError: see `ranking_of`.
        """
        return ranking_of("pca", self.score, {"first_epoch": self.first_epoch, "last_epoch": self.last_epoch})

    def identity(self) -> dict[str, Any]:
        """Return the settings on which a subset depends, as plain data; see `MethodConfig.identity`.

        A score of another method is identified by that method's version and settings.
        """
        return {**super().identity(), **self.ranking.identity}

    @property
    def tile_crop(self) -> TileCrop:
        """Return the rule for training crops of the mosaics."""
        scale = None if self.scale_min is None else (self.scale_min, self.scale_max)
        return TileCrop(self.grid, self.whole, self.align, scale, self.views)


class PCA(Method[PCAConfig]):
    r"""Tile whole images that are easy by EL2N, and crop inside a tile during training; hard labels only.

    Prune: the easy end of EL2N over the full training set is kept, the same number of every class. Combine: whole
    images are shrunk without cropping and tiled grid x grid into each stored image. Augment: training crops inside one
    uniformly chosen tile, a rule that travels with the set as hints.

    $$
    x_i = \mathrm{tile}(r_{4i}, r_{4i+1}, r_{4i+2}, r_{4i+3}),
    \quad r = \mathrm{argsort}_{D_c} \, \mathrm{EL2N},
    \quad \text{crop} \subset \text{one tile}
    $$

    Differences:
        There is no official code. Settings marked as inferred are our reading of the paper and its reviews.
    """

    info = cited("pca", "PCA", "combination", "xiao2025rethinking", needs=("dynamics",))

    def configure(self, settings: Mapping[str, Any]) -> PCAConfig:
        """Return typed settings, with `score` in its canonical spelling; see `Method.configure`.

        Raises:
            ConfigError: also if the score does not exist or its file cannot be read.
        """
        config = super().configure(settings)
        # One spelling per score, so that two spellings share a row and a key.
        return config.model_copy(update={"score": config.ranking.text})

    def inferred(self, config: PCAConfig, image_size: int) -> tuple[str, ...]:
        """Return the names of settings that have an effect and whose value is inferred."""
        unread = config.unread
        return tuple(name for name in super().inferred(config, image_size) if name not in unread)

    def images_needed(self, config: PCAConfig, ipc: int, image_size: int) -> int:
        """Return grid**2 sources for each stored image."""
        return ipc * config.grid**2

    def training_crop(self, config: PCAConfig) -> TileCrop:
        """Return the crops of the settings."""
        return config.tile_crop

    def teachers(self, config: PCAConfig) -> tuple[str, ...]:
        """Return the teachers of the settings if they give the score, else none."""
        return config.teachers if config.score == TEACHER else ()

    def network_visits(self, config: PCAConfig, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Count one forward pass of every training image through every teacher."""
        return train_images * len(self.teachers(config)) / 3

    def observed(self, config: PCAConfig) -> bool:
        """Return whether the score comes from the observer's record."""
        return config.ranking.observed

    def stochastic(self, config: PCAConfig) -> bool:
        """Return whether sources or their order are random."""
        return config.score == RANDOM or config.pool > 0 or config.order == "random"

    def observer_epochs(self, config: PCAConfig) -> int:
        """Return the last epoch that the score reads."""
        return config.ranking.observer_epochs

    def shortest_log(self, config: PCAConfig) -> int:
        """Return the fewest epochs from which the score can be computed."""
        return config.ranking.shortest_log

    def observer_needs(self, config: PCAConfig) -> ObserverNeeds:
        """Return the parts of an observer's record that the score reads."""
        return config.ranking.observer_needs

    def scores(self, context: MethodContext, config: PCAConfig) -> NDArray[np.float64] | None:
        """Return the ranking's score of every training image, float64 [N], high = hard; None for `random` and lists."""
        return config.ranking.scores(context)

    def compress(self, context: MethodContext, config: PCAConfig, ipc: int, seed: int) -> Compressed:
        """Choose sources and tile them into `ipc` mosaics of every class."""
        check_budget(self, config, context.classes, context.counts, ipc, context.image_size)
        scores = self.scores(context, config) if context.scores is None else context.scores
        tiles = config.grid**2
        pools = _sources(context, config, scores, ipc * tiles, derive_seed(seed, "pca window"))
        sources = np.concatenate([_mosaic_rows(pool, tiles, config, seed, label) for label, pool in enumerate(pools)])
        mosaic = Mosaic(grid=config.grid, fit=config.fit, resize=config.resize)
        inferred = {name: getattr(config, name) for name in self.inferred(config, context.image_size)}
        return Compressed(
            labels=context.labels[sources[:, 0]],
            sources=sources,
            images=partial(make_mosaics, context.image, sources, context.image_size, mosaic),
            mosaic=mosaic,
            hints=config.tile_crop.hints,
            details={**({} if scores is None else score_range(scores[sources])), "inferred": inferred},
        )


def _sources(
    context: MethodContext, config: PCAConfig, scores: NDArray[np.float64] | None, needed: int, seed: int
) -> list[NDArray[np.int64]]:
    """Choose `needed` images of every class from the window of difficulty; see `window_of_classes`.

    Raises:
        MethodError: a list names too few images of a class.
    """
    listed, labels = config.ranking.listed(context), context.labels
    # A list ranks by position, over the listed images alone; the result is mapped back to training images below.
    if listed is not None:
        scores, labels = np.arange(listed.size, dtype=np.float64), labels[listed]
        counts = np.bincount(labels, minlength=len(context.classes))
        if counts.min() < needed:
            short = int(counts.argmin())
            raise MethodError(
                f"method pca: score={config.score}: names {counts[short]} images of class '{context.classes[short]}', "
                f"{needed} are needed; lower --ipc or grid, or take a longer list"
            )
    pools = window_of_classes(
        scores, labels, len(context.classes), needed,
        keep=config.keep, offset=config.offset, pool=config.pool, seed=seed,
    )  # fmt: skip
    return pools if listed is None else [listed[pool] for pool in pools]


def _mosaic_rows(pool: NDArray[np.int64], tiles: int, config: PCAConfig, seed: int, label: int) -> NDArray[np.int64]:
    """Return the sources of each mosaic of one class, int64 [ipc, tiles]."""
    if config.order == "spread":
        return pool.reshape(tiles, -1).T  # row i holds the ranks i, n + i, 2n + i, ...
    if config.order == "random":
        pool = np.random.Generator(np.random.PCG64([derive_seed(seed, "pca order"), label])).permutation(pool)
    return pool.reshape(-1, tiles)


METHOD = PCA()
