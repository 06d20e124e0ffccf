"""Convert arrays of images to 8-bit RGB: find their layout, undo a standardisation, and scale to 0..255."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.images import Rgb, check_pixels
from fastdc.common.errors import SourceError

Layout = Literal["NHW", "NHWC", "NCHW"]
_CHANNELS = (1, 3)
_WANTED = "expected uint8, or floats, as [N, H, W, 3], [N, 3, H, W] or grey [N, H, W]"


@dataclass(frozen=True)
class Levels:
    """How an array's values become levels 0..255.

    Attributes:
        layout: order of the array's axes: number, height, width, channel.
        linear: scale and shift, float64 [C] or [1]: a value v has the level v * scale + shift. None for uint8.
    """

    layout: Layout
    linear: tuple[NDArray[np.float64], NDArray[np.float64]] | None

    def to_rgb(self, image: NDArray[Any]) -> Rgb:
        """Return one image of the array as RGB uint8 [H, W, 3]: rounded, and clipped to 0..255.

        Raises:
            SourceError: a value is NaN or infinite.
        """
        levels = self.round(image)
        if not np.isfinite(levels).all():
            raise SourceError("has values that are NaN or infinite, expected numbers")
        levels = np.clip(levels, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(levels if levels.shape[2] == 3 else np.repeat(levels, 3, axis=2))

    def count_outside(self, image: NDArray[Any]) -> int:
        """Return how many values of one image lie outside 0..255 after rounding. NaN does not count."""
        levels = self.round(image)
        return int(np.count_nonzero((levels < 0) | (levels > 255)))

    def round(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the rounded levels of one image, [H, W, C]; they may lie outside 0..255."""
        if self.layout == "NHW":
            image = image[..., None]
        elif self.layout == "NCHW":
            image = np.moveaxis(image, 0, 2)
        if self.linear is None:
            return image
        scale, shift = self.linear
        return np.rint(image.astype(np.float64) * scale + shift)


def find_levels(
    shape: Sequence[int], dtype: np.dtype[Any], mean: Sequence[float] | None, std: Sequence[float] | None, where: str
) -> Levels:
    """Return how an array of images becomes 8-bit RGB.

    Args:
        shape, dtype: those of the array.
        mean, std: the standardisation to undo, one value or one per channel, for pixels on a scale of 0..1; or None.
        where: the array's file and name, for messages.

    Raises:
        SourceError: the array is no array of images, or the standardisation does not fit it.
    """
    layout = _find_layout(shape, where)
    height, width = (shape[2], shape[3]) if layout == "NCHW" else (shape[1], shape[2])
    check_pixels(height, width)
    if dtype == np.uint8:
        if mean is not None or std is not None:
            raise SourceError(f"{where}: is uint8, which --mean and --std do not change; leave them out")
        return Levels(layout, None)
    if dtype.kind != "f":
        raise SourceError(f"{where}: has the type {dtype}, {_WANTED}; save levels 0..255 as uint8")
    _check_standardisation(mean, std, 1 if layout == "NHW" else shape[1 if layout == "NCHW" else 3], where)
    return Levels(layout, (255 * np.array(std or (1.0,)), 255 * np.array(mean or (0.0,))))


def _find_layout(shape: Sequence[int], where: str) -> Layout:
    found = f"has the shape {list(shape)}"
    if 0 in shape:
        raise SourceError(f"{where}: {found}, so there are no images in it")
    if len(shape) == 3:
        return "NHW"
    if len(shape) != 4:
        advice = "; reshape it" if len(shape) == 2 else ""
        raise SourceError(f"{where}: {found}, {_WANTED}{advice}")
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first and last:
        raise SourceError(f"{where}: {found}, where channels may come first or last; save it as [N, H, W, 3]")
    if not first and not last:
        raise SourceError(f"{where}: {found}, without an axis of 1 or 3 channels; {_WANTED}")
    return "NCHW" if first else "NHWC"


def _check_standardisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int, where: str
) -> None:
    if (mean is None) != (std is None):
        given, lacking = ("--std", "--mean") if mean is None else ("--mean", "--std")
        raise SourceError(f"{where}: {given} needs {lacking} beside it; the two undo a standardisation together")
    for name, values in (("--mean", mean or ()), ("--std", std or ())):
        if values and len(values) not in (1, channels):
            raise SourceError(f"{where}: {name} has {len(values)} values, but the images have {channels} channels")
        if not all(0 <= value <= 1 for value in values) or (name == "--std" and 0 in values):
            raise SourceError(
                f"{where}: {name} {','.join(map(str, values))}, expected values for pixels on a scale of 0 to 1; "
                "divide by 255 what was computed on a scale of 0 to 255"
            )
