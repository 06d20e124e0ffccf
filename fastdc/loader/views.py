"""What a loader makes of an image: the random view of training or the fixed one of validation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastdc.errors import ConfigError
from fastdc.kernels.batches import VIEW_NUMBERS
from fastdc.nn.options import IMAGENET_MEAN as IMAGENET_MEAN
from fastdc.nn.options import IMAGENET_STD as IMAGENET_STD

MAX_SIDE = 65_535  # the format stores sides as 16-bit numbers


def _check_side(name: str, side: int, lowest: int) -> None:
    if not lowest <= side <= MAX_SIDE:
        raise ConfigError(f"{name}={side}: expected {lowest}..{MAX_SIDE} pixels")


@dataclass(frozen=True)
class TrainView:
    """RandomResizedCrop to size x size and a mirror with probability 1/2 (torchvision's laws, Pillow's pixels).

    Args:
        size: side of the views, pixels.
        scale: lowest and highest area of the crop, as a share of the image's (or tile's) area, 0 < low <= high <= 1.
        ratio: lowest and highest width / height of the crop, log-uniform.
        flip: whether to mirror left to right at random.
        tile_grid: above 1, the image is a mosaic of tile_grid x tile_grid tiles and the crop lies inside one uniformly
            chosen tile.

    Raises:
        ConfigError: a value is out of range.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    tile_grid: int = 1

    def __post_init__(self) -> None:
        _check_side("size", self.size, 1)
        if not 0.0 < self.scale[0] <= self.scale[1] <= 1.0:
            raise ConfigError(f"scale={self.scale}: expected 0 < low <= high <= 1 (shares of the image area)")
        if not 0.0 < self.ratio[0] <= self.ratio[1] < float("inf"):
            raise ConfigError(f"ratio={self.ratio}: expected 0 < low <= high (width / height)")
        if not 1 <= self.tile_grid <= 256:
            raise ConfigError(f"tile_grid={self.tile_grid}: expected 1..256 tiles a side")


@dataclass(frozen=True)
class EvalView:
    """Shorter side resized to `resize` (antialiased bilinear), then the central size x size pixels.

    Args:
        size: side of the views, pixels.
        resize: shorter side after resizing, pixels, at least `size`; 0 means round(size * 256 / 224).

    Raises:
        ConfigError: a value is out of range.
    """

    size: int
    resize: int = 0

    def __post_init__(self) -> None:
        _check_side("size", self.size, 1)
        if self.resize == 0:
            object.__setattr__(self, "resize", round(self.size * 256 / 224))
        _check_side("resize", self.resize, self.size)


View = TrainView | EvalView


@dataclass(frozen=True)
class ViewRequest:
    """One consumer of a shared stream: what it sees of each image.

    Attributes:
        view: `TrainView` or `EvalView`.
        seed: seed of its augmentation.
    """

    view: View
    seed: int = 0


def view_numbers(view: View) -> NDArray[np.float64]:
    """The view as the kernels take it: float64 [VIEW_NUMBERS], in the order that `kernels.batches` names."""
    numbers = np.zeros(VIEW_NUMBERS)
    if isinstance(view, EvalView):
        numbers[:] = (0, 0, 0, 0, 0, 0, view.resize)
    else:
        numbers[:] = (*view.scale, *view.ratio, view.flip, view.tile_grid, 0)
    return numbers
