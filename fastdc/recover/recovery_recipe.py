"""Recipe of a recovery: the numbers in which the methods of the family differ. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Layout = Literal["across", "class", "class_major"]
Paper = Literal["paper224", "paper64", "paper32"]


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


@dataclass(frozen=True)
class Presets:
    """A method's recipes for the papers' stored sizes.

    Attributes:
        paper224: ImageNet-1K's.
        paper64: Tiny-ImageNet's.
        paper32: CIFAR's.
        inferred: settings of a preset that no public script specifies.
    """

    paper224: Recipe
    paper64: Recipe
    paper32: Recipe
    inferred: Mapping[Paper, tuple[str, ...]] = field(default_factory=dict)

    def named(self, name: Paper) -> Recipe:
        """Return the recipe of that name."""
        return {"paper224": self.paper224, "paper64": self.paper64, "paper32": self.paper32}[name]

    def at(self, image_size: int) -> Recipe:
        """Return the recipe of the data sets whose images have about this side."""
        return self.named(paper_at(image_size))


def paper_at(image_size: int) -> Paper:
    """Return the preset's name for a stored side in pixels: up to 32, 33 to 127, from 128."""
    if image_size <= 32:
        return "paper32"
    return "paper64" if image_size < 128 else "paper224"
