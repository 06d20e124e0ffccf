"""RDED: mosaics of the real patches that a teacher recognises best, without optimisation (Sun et al., CVPR 2024)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from typing_extensions import TypeVar

from fastdc.common.keys import derive_seed
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import Compressed, MethodContext, check_budget
from fastdc.methods.bases.patches import (
    RDED_CROPS,
    RDED_POOL,
    CropLaw,
    best_crop_patches,
    crop_visits,
    random_pools,
    tiles_per_side,
)
from fastdc.methods.bases.teacher_losses import teaching_of
from fastdc.methods.bases.teacher_methods import TeacherConfig, TeacherMethod


class PatchConfig(TeacherConfig):
    """Settings of RDED; defaults are those of the published scripts.

    Attributes:
        fit: not available; patches are square.
        pool: candidate images per class; all images if a class has fewer, more if the mosaics need them.
        crops: candidate crops per image.
        min_scale: smallest area of a crop, as a share of the image's; the largest is the whole image.
        factor: tiles per side of a mosaic; null takes the papers' value for the stored side: 2 from 128 px on, else 1.
        batch_size: crops in a forward pass of the teachers; it affects only time, memory and rounding.
    """

    pool: int = Field(RDED_POOL, ge=1)
    crops: int = Field(RDED_CROPS, ge=1, le=64)
    min_scale: float = Field(0.08, gt=0, le=1)
    factor: int | None = Field(None, ge=1, le=8)
    batch_size: int = Field(256, ge=1)

    @model_validator(mode="after")
    def _fit_is_read(self) -> Self:
        self.refuse_unread({"fit": "in mosaics of square crops"})
        return self


PatchT = TypeVar("PatchT", bound=PatchConfig, default=PatchConfig)


class PatchMethod(TeacherMethod[PatchT]):
    """Base of the methods that tile the best crops of a pool of real images; a subclass may override `pools`."""

    def images_needed(self, config: PatchT, ipc: int, image_size: int) -> int:
        """Return one image for each patch."""
        return ipc * tiles_per_side(config.factor, image_size) ** 2

    def network_visits(self, config: PatchT, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Count one forward pass of every crop of the pool through every teacher."""
        needed = images * tiles_per_side(config.factor, image_size) ** 2
        visits = crop_visits(train_images, classes, needed, pool=config.pool, crops=config.crops)
        return visits * len(self.teachers(config))

    def reductions(self, config: PatchT, image_size: int) -> tuple[str, ...]:
        """Name a pool or a number of crops smaller than the scripts'."""
        found = []
        if config.pool < RDED_POOL:
            found.append(f"{config.pool} candidate images per class instead of {RDED_POOL}")
        if config.crops < RDED_CROPS:
            found.append(f"{config.crops} candidate crops per image instead of {RDED_CROPS}")
        return tuple(found)

    def pools(self, context: MethodContext, config: PatchT, size: int, seed: int) -> Sequence[NDArray[np.int64]]:
        """Return `size` candidates of every class, ascending, or all if a class has fewer; drawn at random here."""
        return random_pools(context, size, derive_seed(seed, "patch pool"))

    def compress(self, context: MethodContext, config: PatchT, ipc: int, seed: int) -> Compressed:
        """Choose patches and tile them into `ipc` mosaics of every class."""
        check_budget(self, config, context.classes, context.counts, ipc, context.image_size)
        name, factor = self.info.name, tiles_per_side(config.factor, context.image_size)
        patches, losses = best_crop_patches(
            context,
            self.pools(context, config, max(config.pool, ipc * factor**2), seed),
            CropLaw(seed, config.crops, scale=(config.min_scale, 1.0)),
            teaching_of(context, name).teachers,
            ipc=ipc,
            factor=factor,
            batch_size=config.batch_size,
            label=name,
        )
        return Compressed(
            labels=np.repeat(np.arange(len(context.classes), dtype=np.int64), ipc),
            sources=patches.samples,
            images=partial(patches.mosaics, context),
            details={"factor": factor, "loss_min": float(losses.min()), "loss_max": float(losses.max())}
            | self.more_details(config, context.image_size),
        )

    def more_details(self, config: PatchT, image_size: int) -> dict[str, Any]:
        """Return further facts for the manifest."""
        return {}


class RDED(PatchMethod[PatchConfig]):
    r"""Take each image's crop of lowest loss from a random pool, and tile the lowest of these.

    The pool holds 300 images of every class, each with 5 random crops. A teacher scores them, and the best crop of an
    image stands for it. No image is optimised: mosaic i holds the patches ranked i, n + i, 2n + i and 3n + i (n = ipc).

    $$
    c_j = \mathrm{argmin}_{c \in \text{crops of } j} \; \ell(f(c), y),
    \quad x_i = \mathrm{tile}(r_i, r_{n+i}, r_{2n+i}, r_{3n+i}),
    \quad r = \mathrm{argsort} \; \ell(f(c_j), y)
    $$

    Differences:
        * RDED's own training crops inside a tile and shuffles the tiles. The benchmark does so for no method, so the
          set carries no hint.
        * A patch is resized to its tile's size. For an odd side, the published code enlarges it by nearest neighbour.
    """

    info = cited("rded", "RDED", "distillation", "sun2024diversity", needs=("teacher",), stochastic=True)


METHOD = RDED()
