"""The one random view that all images of a batch share in an iteration: crop, mirror, roll."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from fastdc.kernels.boxes import Box, random_flip, random_resized_crop
from fastdc.kernels.rng import draw_integer, stream_key
from fastdc.recover.recipe import Recipe

RATIO = (3 / 4, 4 / 3)
ROLL_DOWN, ROLL_RIGHT = 62, 63  # draw numbers beside those of `kernels.rng`


@dataclass(frozen=True)
class SharedView:
    """One view.

    Attributes:
        box: the crop (top, left, height, width) in pixels.
        mirror: whether it is mirrored left to right.
        roll: pixels by which it is rolled down and right.
    """

    box: Box
    mirror: bool
    roll: tuple[int, int]

    def __call__(self, images: torch.Tensor, side: int) -> torch.Tensor:
        """The view of float images [B, 3, S, S] as [B, 3, side, side]; differentiable.

        Bilinear without antialiasing: a crop is never larger than the view, but where a stage works above it.
        """
        top, left, height, width = self.box
        view = images[:, :, top : top + height, left : left + width]
        if (height, width) != (side, side):
            view = functional.interpolate(view, size=(side, side), mode="bilinear", align_corners=False)
        if self.mirror:
            view = view.flip(3)
        return view.roll(self.roll, (2, 3)) if any(self.roll) else view


def draw_view(recipe: Recipe, seed: int, batch: int, iteration: int, side: int) -> SharedView:
    """The view of one iteration of one batch; a pure function of its arguments.

    Args:
        seed: the recovery's seed, in [0, 2**63).
        side: side of the images in pixels.
    """
    key = np.uint64(stream_key(seed, batch, iteration))
    low = recipe.crop_min_at(iteration)
    box = random_resized_crop(key, side, side, low, recipe.crop_max, *RATIO)
    rolls = recipe.jitter + 1
    roll = (draw_integer(key, ROLL_DOWN, rolls), draw_integer(key, ROLL_RIGHT, rolls))
    return SharedView(box, bool(random_flip(key)), roll)
