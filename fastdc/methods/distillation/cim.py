"""CIM's selection and combination: tile the whole images that a teacher recognises best (Shang et al., ECCV 2026)."""

from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fastdc.beton.hints import TileCrop
from fastdc.common.keys import derive_seed
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import Compressed, MethodContext, Mosaic, check_budget
from fastdc.methods.bases.mosaics import make_mosaics
from fastdc.methods.bases.patches import by_pool, random_pools
from fastdc.methods.bases.teacher_losses import image_losses, teaching_of
from fastdc.methods.bases.teacher_methods import TeacherConfig, TeacherMethod
from fastdc.recover.recovery_recipe import LARGE_SIDE

PAPER_POOL = 300
"""Candidate images per class of the published scripts."""


class CIMConfig(TeacherConfig):
    """Settings of CIM; defaults are those of the published scripts.

    Attributes:
        pool: candidate images per class; all images if a class has fewer, more if the mosaics need them.
        grid: tiles per side of a mosaic. One training visit in grid**2 sees the whole mosaic, the others one tile.
        resize: shorter side in pixels, at least S, to which an image is resized before its central S x S pixels are
            scored and tiled. null takes the scripts' value for the stored side: round(S * 256 / 224) from 128 px on
            (ImageNet), else S (CIFAR, Tiny). The script that stores ImageNet-1K at 64 px uses 73.
        batch_size: images in a forward pass of the teachers; it affects only time, memory and rounding.
    """

    pool: int = Field(PAPER_POOL, ge=1)
    grid: int = Field(2, ge=1, le=8)
    resize: int | None = Field(None, ge=1)
    batch_size: int = Field(256, ge=1)

    @model_validator(mode="after")
    def _fit_is_read(self) -> Self:
        self.refuse_unread({"fit": "in mosaics of central squares"})
        return self

    def shorter_side(self, size: int) -> int:
        """Return `resize`, or the scripts' value for images stored at `size` px."""
        from fastdc.loader.view_settings import validation_side  # its package imports torch

        return self.resize or (validation_side(size) if size >= LARGE_SIDE else size)

    @property
    def tile_crop(self) -> TileCrop:
        """Return the rule for training crops of the mosaics."""
        return TileCrop() if self.grid == 1 else TileCrop(self.grid, whole=1 / self.grid**2)


class CIM(TeacherMethod[CIMConfig]):
    r"""Tile the whole images of lowest loss from a random pool, each shrunk by nearest pixels.

    The pool holds 300 images of every class, and a teacher scores their central squares. Mosaic i of a class holds the
    images ranked i, n + i, 2n + i, ... (n = ipc). The setting `fit` has no effect and is refused.

    $$x_i = \mathrm{tile}(r_i, r_{n+i}, r_{2n+i}, r_{3n+i}), \quad r = \mathrm{argsort} \; \ell(f(x), y)$$

    Differences:
        * The published method then fits the mosaics to the sources' features in 200 iterations. That step is left out
          here, and rows report it.
        * Published training takes a tile as it is, resized. Here the protocol's crop is taken inside the tile, as for
          every set with hints; the protocol `cim-hl` trains as published.
    """

    info = cited(
        "cim", "CIM (selection, combination)", "distillation", "shang2026cim", needs=("teacher",), stochastic=True
    )

    def images_needed(self, config: CIMConfig, ipc: int, image_size: int) -> int:
        """Return `ipc` times the number of tiles."""
        return ipc * config.grid**2

    def training_crop(self, config: CIMConfig) -> TileCrop:
        """Return the crops of the mosaics, or those of the settings."""
        return config.tile_crop if config.augment is None else super().training_crop(config)

    def network_visits(self, config: CIMConfig, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Count one forward pass of every pooled image through every teacher."""
        pool = min(train_images, max(config.pool * classes, images * config.grid**2))
        return pool * len(self.teachers(config)) / 3

    def reductions(self, config: CIMConfig, image_size: int) -> tuple[str, ...]:
        """Name the matching of features, which is left out, and a pool smaller than the scripts'."""
        found, pool = ["selection and combination alone, without CIM's matching of features"], config.pool
        if pool < PAPER_POOL:
            found.append(f"{pool} candidate images per class instead of {PAPER_POOL}")
        return tuple(found)

    def compress(self, context: MethodContext, config: CIMConfig, ipc: int, seed: int) -> Compressed:
        """Choose and tile `ipc` mosaics of every class."""
        name = self.info.name
        check_budget(self, config, context.classes, context.counts, ipc, context.image_size)
        teachers, side = teaching_of(context, name).teachers, config.shorter_side(context.image_size)
        # The seed of `rded`'s pool, so that both methods choose from the same candidates.
        size = max(config.pool, self.images_needed(config, ipc, context.image_size))
        pools = random_pools(context, size, derive_seed(seed, "patch pool"))
        every = np.concatenate(pools)
        losses = image_losses(context, teachers, config.batch_size, name, resize=side, samples=every)
        sources, kept = _best_of_pools(pools, losses, ipc, config.grid**2)
        mosaic = Mosaic(grid=config.grid, fit="squash", resize="nearest", view=side / context.image_size)
        return Compressed(
            labels=context.labels[sources[:, 0]],
            sources=sources,
            images=partial(make_mosaics, context.image, sources, context.image_size, mosaic),
            mosaic=mosaic,
            hints=config.tile_crop.hints,
            details={"grid": config.grid, "loss_min": float(kept.min()), "loss_max": float(kept.max())},
        )


def _best_of_pools(
    pools: list[NDArray[np.int64]], losses: NDArray[np.float64], ipc: int, tiles: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the images of lowest loss, and these losses, each [C * ipc, tiles], one row per mosaic.

    Ties go to the lower image number.

    Args:
        losses: float64, of all pools one after the other.
    """
    sources, kept = [], []
    for pool, own in by_pool(pools, losses):
        rows = np.argsort(own, kind="stable")[: ipc * tiles].reshape(tiles, ipc).T
        sources.append(pool[rows])
        kept.append(own[rows])
    return np.concatenate(sources), np.concatenate(kept)


METHOD = CIM()
