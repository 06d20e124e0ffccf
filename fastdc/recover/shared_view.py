"""The random view that all images of a batch share in one iteration: crop, mirror, roll."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from fastdc.kernels.core.rng import draw_integer, stream_key
from fastdc.kernels.views.boxes import Box, random_flip, random_resized_crop
from fastdc.recover.recovery_recipe import Recipe

RATIO = (3 / 4, 4 / 3)
# Draw numbers. `kernels.core.rng` gives 62 to 65 to views of mosaics, which are never drawn from a recovery's stream.
ROLL_DOWN, ROLL_RIGHT, SHIFT_DOWN, SHIFT_RIGHT = 62, 63, 64, 65


@dataclass(frozen=True)
class SharedView:
    """Random view shared by a batch.

    Attributes:
        box: the crop (top, left, height, width) in pixels, of the image with its margin.
        mirror: whether it is mirrored left to right.
        roll: pixels by which it is rolled down and right.
        margin: pixels of zeros (the mean colour) around the image before it is cropped.
    """

    box: Box
    mirror: bool
    roll: tuple[int, int]
    margin: int = 0

    def __call__(self, images: torch.Tensor, side: int) -> torch.Tensor:
        """Return the view of float images [B, 3, S, S] as [B, 3, side, side]; differentiable.

        It resizes bilinearly. Antialiasing is not needed, because a crop is never larger than the view.
        """
        top, left, height, width = self.box
        padded = functional.pad(images, (self.margin,) * 4) if self.margin else images
        view = padded[:, :, top : top + height, left : left + width]
        if (height, width) != (side, side):
            view = functional.interpolate(view, size=(side, side), mode="bilinear", align_corners=False)
        if self.mirror:
            view = view.flip(3)
        return view.roll(self.roll, (2, 3)) if any(self.roll) else view


def draw_view(recipe: Recipe, seed: int, batch: int, iteration: int, side: int) -> SharedView:
    """Draw the view of one iteration of one batch; a pure function of its arguments.

    Args:
        recipe: the recovery's numbers.
        seed: the recovery's seed, in [0, 2**63).
        batch: number of the batch.
        iteration: counted from 0.
        side: side of the images in pixels.
    """
    key = np.uint64(stream_key(seed, batch, iteration))
    back = recipe.jitter if recipe.jitter_signed else 0
    rolls = recipe.jitter + back + 1
    roll = (draw_integer(key, ROLL_DOWN, rolls) - back, draw_integer(key, ROLL_RIGHT, rolls) - back)
    return SharedView(_box(recipe, key, iteration, side), recipe.flip and bool(random_flip(key)), roll, recipe.margin)


def _box(recipe: Recipe, key: np.uint64, iteration: int, side: int) -> Box:
    if recipe.margin:
        shifts = 2 * recipe.margin + 1
        return draw_integer(key, SHIFT_DOWN, shifts), draw_integer(key, SHIFT_RIGHT, shifts), side, side
    return random_resized_crop(key, side, side, recipe.crop_min_at(iteration), recipe.crop_max, *RATIO)
