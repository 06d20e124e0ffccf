"""PACT, Pack And Crop Tiles: fastdc's own method, with more real pixels in the bytes of `random` and no network."""

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fastdc.beton import encode_jpeg, encode_jpeg_optimised, encode_jpeg_within, fit_image
from fastdc.beton.encode_images import STORED_QUALITY
from fastdc.beton.hints import TileCrop
from fastdc.common.keys import derive_seed
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import Compressed, Method, MethodContext, Mosaic, check_budget
from fastdc.methods.bases.method_config import Fit
from fastdc.methods.bases.mosaics import make_mosaics, store_mosaics
from fastdc.methods.bases.score_methods import mean_over_runs
from fastdc.methods.bases.selection import random_balanced, window_of_classes
from fastdc.methods.pruning.el2n import EL2NRanking
from fastdc.observe.record_needs import ObserverNeeds

GRIDS = range(2, 9)
"""Tiles per side that grid=null tries, in this order."""
Budget = Literal["encoded", "stored"]
ENCODERS = {"encoded": encode_jpeg_optimised, "stored": encode_jpeg}
STEP = 8
"""Step between the sides of tiles, in pixels. JPEG codes blocks of 8 x 8."""
SAMPLE = 64
"""Number of mosaics on which the quality of a tile side is measured."""


class PACTConfig(EL2NRanking):
    """Settings of PACT.

    Attributes:
        fit: how a source fills its tile; `squash` keeps the whole source, as in PCA.
        pool: share of a class from which sources are drawn, in percent from the end that `keep` names. The pool grows
            if it has too few images. 100 draws from the whole class and reads no observer.
        grid: tiles per side; null takes 2, and more if tiles reach the side S with bytes left.
        lowest_quality: lowest JPEG quality to which larger tiles may lead, for the median mosaic of a sample. On
            held-out images, 21 with larger tiles was as good as 33 (one seed).
        budget: bytes that a mosaic may take on average: those of `random`'s images `encoded` as a mosaic is, or as
            `random` has them `stored`.
    """

    later_settings: ClassVar[tuple[str, ...]] = ("budget",)

    fit: Fit = "squash"
    pool: float = Field(100.0, gt=0, le=100)
    grid: int | None = Field(None, ge=1, le=GRIDS[-1])
    lowest_quality: int = Field(20, ge=1, le=95)
    budget: Budget = "encoded"

    @model_validator(mode="after")
    def _all_is_read(self) -> Self:
        whole = {} if self.pool < 100 else dict.fromkeys(("keep", "first_epoch", "last_epoch"), "with pool=100")
        self.refuse_unread(whole)
        return self


class PACT(Method[PACTConfig]):
    r"""Draw sources at random, pack them into the bytes of `random`'s images, and crop inside their tiles.

    The budget is in bytes. `random` spends it on one image of JPEG quality 75, PACT on a mosaic of four at a lower
    quality. Tiles grow from half the side to the full one while the median quality stays at `lowest_quality` or above,
    because resolution is worth more than JPEG quality.

    $$
    \max_{t} \; t \quad \text{such that} \quad \mathrm{median} \; q(t) \geq q_{\min},
    \quad \mathrm{bytes}(x_i) \leq \frac{1}{n} \sum_j \mathrm{bytes}(\mathtt{random}_j)
    $$

    Here t is the side of a tile, and q(t) the highest JPEG quality at which a mosaic of such tiles fits the bytes.
    Sources are drawn from the whole class by default: on held-out images the easier half gained nothing clear, and
    costs an observer. Labels are hard, and the number of training steps is the same as for `random`.

    Differences:
        This is fastdc's own method; there is no other code.
    """

    info = cited(
        "pact",
        "PACT",
        "combination",
        "fastdc2026pact",
        paper="PACT: Pack And Crop Tiles (fastdc, no paper)",
        needs=("dynamics",),
        stochastic=True,
    )

    def inferred(self, config: PACTConfig, image_size: int) -> tuple[str, ...]:
        """Return nothing, because there is no paper from which to infer."""
        return ()

    def images_needed(self, config: PACTConfig, ipc: int, image_size: int) -> int:
        """Return grid**2 sources for each stored image; for the smallest grid if the grid is chosen later."""
        return ipc * (config.grid or GRIDS[0]) ** 2

    def training_crop(self, config: PACTConfig) -> TileCrop:
        """Return the crops inside tiles of the smallest grid, or those of the settings."""
        own = TileCrop(config.grid or GRIDS[0])
        return own if config.augment is None else super().training_crop(config)

    def observed(self, config: PACTConfig) -> bool:
        """Return whether the method reads EL2N."""
        return config.pool < 100

    def observer_epochs(self, config: PACTConfig) -> int:
        """Return the last epoch of EL2N's window."""
        return config.last_epoch

    def observer_needs(self, config: PACTConfig) -> ObserverNeeds:
        """Return EL2N's needs, or none if the whole class is the pool."""
        return super().observer_needs(config) if self.observed(config) else ObserverNeeds()

    def scores(self, context: MethodContext, config: PACTConfig) -> NDArray[np.float64] | None:
        """Return EL2N of every training image, float64 [N], high = hard; None if the whole class is the pool."""
        return mean_over_runs("el2n", context.observations, config.of_run) if self.observed(config) else None

    def compress(self, context: MethodContext, config: PACTConfig, ipc: int, seed: int) -> Compressed:
        """Make `ipc` mosaics of every class, none with more bytes than the mean image of `random` at this seed.

        `store_mosaics` refuses a mosaic that exceeds these bytes even at the lowest JPEG quality.
        """
        check_budget(self, config, context.classes, context.counts, ipc, context.image_size)
        budget = plain_bytes(context, ipc, seed, config.budget) // (ipc * len(context.classes))
        sources, mosaic, quality = self._packed(context, config, ipc, seed, budget)
        return Compressed(
            labels=context.labels[sources[:, 0]],
            sources=sources,
            images=partial(store_mosaics, context.image, sources, context.image_size, mosaic),
            mosaic=mosaic,
            # Mosaics are larger than S, and training would otherwise take its side from theirs.
            hints={**TileCrop(mosaic.grid).hints, "image_size": context.image_size},
            details={"grid": mosaic.grid, "max_bytes": budget, "sampled_quality": quality},
        )

    def _packed(
        self, context: MethodContext, config: PACTConfig, ipc: int, seed: int, budget: int
    ) -> tuple[NDArray[np.int64], Mosaic, float]:
        """Return the sources, their layout, and the median quality of a sample of mosaics.

        Bytes buy resolution first, up to S, because training resizes to S. Then they buy more tiles.
        """
        size, grid = context.image_size, config.grid or GRIDS[0]
        sources = self._sources(context, config, ipc, grid, seed)
        # The last and smallest side is taken even if its quality is below `lowest_quality`.
        for tile in tile_sides(size):
            mosaic = Mosaic(grid=grid, fit=config.fit, side=grid * tile, max_bytes=budget)
            quality = _sampled_quality(context, sources, mosaic)
            if quality >= config.lowest_quality:
                break
        packed = sources, mosaic, quality
        while config.grid is None and tile == size and quality >= config.lowest_quality:
            packed, grid = (sources, mosaic, quality), grid + 1
            if grid > GRIDS[-1] or ipc * grid**2 > min(context.counts):
                break
            sources = self._sources(context, config, ipc, grid, seed)
            mosaic = mosaic.model_copy(update={"grid": grid, "side": grid * tile})
            quality = _sampled_quality(context, sources, mosaic)
        return packed

    def _sources(self, context: MethodContext, config: PACTConfig, ipc: int, grid: int, seed: int) -> NDArray[np.int64]:
        """Return the training images of each mosaic, int64 [ipc * C, grid**2], grouped by class."""
        scores = self.scores(context, config) if context.scores is None else context.scores
        pools = window_of_classes(
            scores, context.labels, len(context.classes), ipc * grid**2,
            keep=config.keep, offset=0, pool=config.pool, seed=derive_seed(seed, "pact sources"),
        )  # fmt: skip
        # With scores, pools come in the order of the ranking; shuffling keeps neighbours from sharing a mosaic.
        order = derive_seed(seed, "pact order")
        mixed = [np.random.Generator(np.random.PCG64([order, n])).permutation(pool) for n, pool in enumerate(pools)]
        return np.concatenate(mixed).reshape(-1, grid**2)


def tile_sides(image_size: int) -> list[int]:
    """Return the possible sides of tiles in pixels, largest first.

    They are S, the multiples of 8 between half of S and S, and half of S (rounded up).
    """
    half = -(-image_size // 2)
    steps = range(image_size // STEP * STEP, half, -STEP)
    return [image_size, *(side for side in steps if side < image_size), half]


def plain_bytes(context: MethodContext, ipc: int, seed: int, budget: Budget) -> int:
    """Return the bytes of the images that `random` keeps at this seed, encoded as `budget` defines.

    `random` itself stores them with standard Huffman tables, which take 25 % more at 64 px. "encoded" leaves that gain
    out, so that the comparison is between images, not encoders.
    """
    size, encode = context.image_size, ENCODERS[budget]
    chosen = random_balanced(context.labels, len(context.classes), ipc, derive_seed(seed, "random subset"))
    images = (fit_image(context.image(int(index)), size, "crop") for index in chosen)
    return sum(len(encode(image, STORED_QUALITY)) for image in images)


def _sampled_quality(context: MethodContext, sources: NDArray[np.int64], mosaic: Mosaic) -> float:
    """Return the median JPEG quality of `SAMPLE` evenly spaced mosaics; 0 if one exceeds its bytes at every quality."""
    assert mosaic.side is not None
    assert mosaic.max_bytes is not None
    # With fewer mosaics than `SAMPLE`, positions repeat; `unique` then keeps each mosaic once.
    sample = sources[np.unique(np.linspace(0, len(sources) - 1, SAMPLE).astype(int))]
    pixels: Iterator[NDArray[np.uint8]] = make_mosaics(context.image, sample, mosaic.side, mosaic)
    files = [encode_jpeg_within(image, mosaic.max_bytes) for image in pixels]
    fits = all(len(file) <= mosaic.max_bytes for file, _ in files)
    return float(np.median([quality for _, quality in files])) if fits else 0.0


METHOD = PACT()
