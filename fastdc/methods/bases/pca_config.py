"""Settings of PCA, and the combinations that are refused."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fastdc.beton.hints import MAX_VIEWS, TileCrop
from fastdc.methods.bases.method import Fit, Resize
from fastdc.methods.bases.source_ranking import EL2N, RANDOM, TEACHER, Ranking, ranking_of
from fastdc.methods.bases.teacher_methods import TeacherConfig
from fastdc.methods.pruning.el2n import EL2NRanking

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
            raise ValueError(f"scale_min={self.scale_min} lies above scale_max={self.scale_max}")
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
