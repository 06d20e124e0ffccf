"""Specification of a recovery as plain data: its numbers, and the statistics to measure and to match. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal

from typing_extensions import TypeVar

from fastdc.common.keys import derive_seed

Layout = Literal["across", "class", "class_major"]
Paper = Literal["paper224", "paper64", "paper32"]
ClassVariance = Literal["exact", "released"]
StatisticsKind = Literal["running", "class", "mixed"]


@dataclass(frozen=True)
class Recipe:
    """Settings of one recovery; a method with further settings derives its own recipe.

    Attributes:
        iterations: optimiser steps of every image, at least 1.
        learning_rate: Adam's, at the first step; a cosine takes it to 0 over `iterations`.
        matching_weight: weight of the statistics loss beside the cross entropy.
        variance_weight: weight of the variances inside the statistics loss; the means have 1.
        crop_min, crop_max: lowest and highest area of the shared crop, as a share of the image's.
        milestone: share of the iterations over which the lowest area falls from `crop_max` to `crop_min` (CDA); 0 for
            none.
        margin: pixels of the mean colour around the image, within which it is shifted; 0 for none.
        flip: whether the shared view is mirrored with probability 1/2.
        jitter: the shared view is rolled by 0 .. jitter pixels down and right, independently; 0 for none.
        jitter_signed: whether it is rolled by -jitter .. jitter pixels instead.
        batch_size: images that are optimised together.
        rounds: groups into which a class's images are split; group g joins after g / rounds of the iterations (DELT).
        stages: sides of the optimised images, as shares of the stored side, one stage after the other (FADRM). Each
            stage takes an equal share of the iterations.
        residual: share of the start that is mixed in between two stages (FADRM).
    """

    iterations: int = 4000
    learning_rate: float = 0.25
    matching_weight: float = 0.01
    variance_weight: float = 1.0
    crop_min: float = 0.08
    crop_max: float = 1.0
    milestone: float = 0.0
    margin: int = 0
    flip: bool = True
    jitter: int = 32
    jitter_signed: bool = False
    batch_size: int = 100
    rounds: int = 1
    stages: tuple[float, ...] = (1.0,)
    residual: float = 0.0

    def crop_min_at(self, iteration: int) -> float:
        """Return the lowest crop area at an iteration counted from 0.

        CDA (Yin & Shen, TMLR 2024), cosine mode: from `crop_max` down to `crop_min` while t <= milestone x T.
        """
        end = self.milestone * self.iterations
        if end == 0 or iteration > end:
            return self.crop_min
        return self.crop_min + (self.crop_max - self.crop_min) * (1 + math.cos(math.pi * iteration / end)) / 2

    def learning_rate_at(self, iteration: int) -> float:
        """Return the learning rate at an iteration counted from 0: a cosine that would reach 0 at `iterations`."""
        return self.learning_rate * (1 + math.cos(math.pi * iteration / self.iterations)) / 2

    @property
    def join_every(self) -> int:
        """Return the iterations between the joining of one group and the next, at least 1."""
        return max(self.iterations // self.rounds, 1)

    def stage_sides(self, image_size: int) -> dict[int, int]:
        """Return the images' side in pixels in every stage, by the stage's first iteration."""
        count = len(self.stages)
        # With fewer iterations than stages, several stages share a first iteration and the last of them counts.
        return {n * self.iterations // count: round(share * image_size) for n, share in enumerate(self.stages)}


LARGE_SIDE = 128
"""Smallest side of stored images, in pixels, at which the papers' numbers for ImageNet apply."""
RecipeT = TypeVar("RecipeT", bound=Recipe, default=Recipe)


@dataclass(frozen=True)
class Presets(Generic[RecipeT]):
    """A method's recipes for the papers' stored sizes.

    Attributes:
        paper224: ImageNet-1K's.
        paper64: Tiny-ImageNet's.
        paper32: CIFAR's.
        inferred: settings of a preset that no public script specifies.
    """

    paper224: RecipeT
    paper64: RecipeT
    paper32: RecipeT
    inferred: Mapping[Paper, tuple[str, ...]] = field(default_factory=dict)

    def named(self, name: Paper) -> RecipeT:
        """Return the recipe of that name."""
        return {"paper224": self.paper224, "paper64": self.paper64, "paper32": self.paper32}[name]

    def at(self, image_size: int) -> RecipeT:
        """Return the recipe of the data sets whose images have about this side."""
        return self.named(paper_at(image_size))


def paper_at(image_size: int) -> Paper:
    """Return the preset's name for a stored side in pixels: up to 32, 33 to 127, from 128."""
    if image_size <= 32:
        return "paper32"
    return "paper64" if image_size < LARGE_SIDE else "paper224"


@dataclass(frozen=True)
class StatisticsSpec:
    """Selection of the statistics of a training set to measure.

    Attributes:
        image_size: side S of the views, pixels; the map sizes, and with them the patches, depend on it.
        by_class: measure every class and the set; else only the set as a whole.
        norms: include the inputs of BatchNorm2d layers.
        convolutions: include the inputs of Conv2d layers, by channel and by patch.
        patch: side of a patch.
        class_variance: `exact` is a class's variance E[x^2] - E[x]^2. `released` omits the variance between images: it
            is the mean of the variances within single images, which LPLD's and EDC's released codes compute.
        seed: seed of the views' augmentation. It does not follow the subset seed, because the statistics describe the
            training set.
    """

    image_size: int
    by_class: bool = True
    norms: bool = True
    convolutions: bool = False
    patch: int = 16
    class_variance: ClassVariance = "exact"
    seed: int = derive_seed(0, "layer statistics")


@dataclass(frozen=True)
class MatchingSpec:
    """Selection and weights of the statistics to match.

    Attributes:
        mean_weight: weight of the distance between means.
        variance_weight: weight of the distance between variances (DWA: 2, or 11 for small images).
        first_layer_factor: weight of the first matched layer, in the order of the forward pass (SRe2L: 10).
        convolutions: whether the inputs of Conv2d layers are matched too, by channel and by patch (G-VBSM, EDC).
        patch: side of a patch in units of the map; the paper's is 16, or 4 for images up to 64 px.
        ema: share a of the past in the moving average of the batch's statistics,
            average <- a * average + (1 - a) * batch. The average replaces the batch's statistics but keeps their
            gradient; None for the batch alone.
        drop: share of the convolutions that each forward pass leaves out at random (G-VBSM's small images).
        statistics: the targets: `running`, the whole set (for BatchNorm inputs, the teacher's running statistics);
            `class`, the mean of the statistics of the batch's classes (LPLD); `mixed`, half the distance to each (EDC).
    """

    mean_weight: float = 1.0
    variance_weight: float = 1.0
    first_layer_factor: float = 10.0
    convolutions: bool = False
    patch: int = 16
    ema: float | None = None
    drop: float = 0.0
    statistics: StatisticsKind = "running"
