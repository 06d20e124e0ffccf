"""Views of an image that a loader makes: the random one of training or the fixed one of validation."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.format import MAX_SIDE
from fastdc.beton.hints import MAX_GRID
from fastdc.common.errors import ConfigError
from fastdc.kernels.views.view_batches import RESIZE_SIDE, VIEW_NUMBERS


def _check_side(name: str, side: int, lowest: int) -> None:
    if not lowest <= side <= MAX_SIDE:
        raise ConfigError(f"{name}={side}: expected {lowest}..{MAX_SIDE} pixels")


def _check_scale(name: str, scale: tuple[float, float]) -> None:
    if not 0.0 < scale[0] <= scale[1] <= 1.0:
        raise ConfigError(f"{name}={scale}: expected 0 < low <= high <= 1 (shares of the area)")


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
        tile_whole: share of visits to a mosaic that crop from all of it instead, 0..1.
        tile_align: share of the other visits whose window is a tile, 0..1; the rest take a tile-sized window anywhere.
        tile_scale: `scale` for crops inside a tile or tile-sized window; None means `scale`.

    Raises:
        ConfigError: a value is out of range.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    tile_grid: int = 1
    tile_whole: float = 0.0
    tile_align: float = 1.0
    tile_scale: tuple[float, float] | None = None

    def identity(self) -> dict[str, Any]:
        """Return the settings that the views depend on.

        Settings added in later releases are omitted at their defaults, so that existing keys stay valid.
        """
        later = ("tile_whole", "tile_align", "tile_scale")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in values.items() if name not in later or value != defaults[name]}

    def __post_init__(self) -> None:
        _check_side("size", self.size, 1)
        _check_scale("scale", self.scale)
        _check_scale("tile_scale", self.tile_scale or self.scale)
        if not 0.0 < self.ratio[0] <= self.ratio[1] < float("inf"):
            raise ConfigError(f"ratio={self.ratio}: expected 0 < low <= high (width / height)")
        if not 1 <= self.tile_grid <= MAX_GRID:
            raise ConfigError(f"tile_grid={self.tile_grid}: expected 1..{MAX_GRID} tiles a side")
        for name in ("tile_whole", "tile_align"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}={getattr(self, name)}: expected a share of the visits, 0 to 1")


def validation_side(size: int) -> int:
    """Return the shorter side, in pixels, from which validation cuts its central `size` x `size` pixels."""
    return round(size * 256 / 224)


@dataclass(frozen=True)
class EvalView:
    """Resize of the shorter side to `resize` (antialiased bilinear), then the central size x size pixels.

    Args:
        size: side of the views, pixels.
        resize: shorter side after resizing, pixels, at least `size`; 0 means `validation_side`.

    Raises:
        ConfigError: a value is out of range.
    """

    size: int
    resize: int = 0

    def __post_init__(self) -> None:
        _check_side("size", self.size, 1)
        if self.resize == 0:
            # The dataclass is frozen, so an ordinary assignment would raise.
            object.__setattr__(self, "resize", validation_side(self.size))
        _check_side("resize", self.resize, self.size)


View = TrainView | EvalView


@dataclass(frozen=True)
class ViewRequest:
    """View that one consumer of a shared stream requests of each image.

    Attributes:
        view: `TrainView` or `EvalView`.
        seed: seed of its augmentation.
    """

    view: View
    seed: int = 0


def view_numbers(view: View) -> NDArray[np.float64]:
    """Return the view as kernels take it: float64 [VIEW_NUMBERS], in the order of `kernels.views.view_batches`."""
    numbers = np.zeros(VIEW_NUMBERS)
    if isinstance(view, EvalView):
        numbers[RESIZE_SIDE] = view.resize
    else:
        tile = (view.tile_whole, view.tile_align, *(view.tile_scale or view.scale))
        numbers[:] = (*view.scale, *view.ratio, view.flip, view.tile_grid, 0, *tile)
    return numbers
