"""Resize pixels with Pillow's antialiased bilinear filter."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image

from fastdc.beton.images import Rgb

Resize = Callable[[Rgb, int, int], Rgb]


def resize_short(rgb: Rgb, size: int, resize: Resize | None = None) -> Rgb:
    """Shrink RGB [H, W, 3] so that the shorter side has `size` pixels; return smaller images unchanged.

    The longer side becomes int(size * long / short), which is torchvision's rule. The filter is antialiased bilinear
    and gives Pillow's pixels.

    Args:
        rgb: uint8 [H, W, 3].
        size: pixels.
        resize: `resize_image` (the default) or `resize_many`; both give the same pixels.
    """
    height, width = rgb.shape[:2]
    short = min(height, width)
    if short <= size:
        return rgb
    new_height, new_width = (size if side == short else int(size * side / short) for side in (height, width))
    return (resize or resize_image)(rgb, new_height, new_width)


def resize_image(rgb: Rgb, height: int, width: int) -> Rgb:
    """Resize RGB to [height, width, 3] with Pillow's antialiased bilinear filter, up or down.

    Rows come first, then columns. Pillow 13 picks the cheaper order itself, which changes one pixel in five by one
    level. Fixing the order keeps our files independent of Pillow's version.
    """
    if rgb.shape[:2] == (height, width):
        return rgb
    image = Image.fromarray(np.ascontiguousarray(rgb))
    rows = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.array(rows.resize((width, height), Image.Resampling.BILINEAR))


def resize_many(rgb: Rgb, height: int, width: int) -> Rgb:
    """Resize as `resize_image` does, for thousands of images: the same pixels, about 4 times as fast.

    The first call loads numba and, once per machine, compiles the kernel. That does not pay off for a few images.
    """
    from fastdc.kernels.views.resize import resize_crop

    out = np.empty((height, width, 3), np.uint8)
    resize_crop(np.ascontiguousarray(rgb), (0, 0, rgb.shape[0], rgb.shape[1]), False, out)
    return out


def fit_image(rgb: Rgb, size: int, fit: Literal["crop", "squash", "pad"]) -> Rgb:
    """Fit RGB [H, W, 3] into [size, size, 3] with an antialiased bilinear filter, enlarging it if necessary.

    Args:
        rgb: uint8 [H, W, 3].
        size: side in pixels.
        fit: "crop" scales the shorter side to `size` and crops the centre. "squash" scales both sides to `size` and
            loses the aspect ratio. "pad" scales the longer side to `size` and adds black bars on both sides of the
            shorter.

    Raises:
        ValueError: `fit` is unknown.
    """
    height, width = rgb.shape[:2]
    if fit == "squash":
        return resize_image(rgb, size, size)
    if fit not in ("crop", "pad"):
        raise ValueError(f"fit={fit!r}: expected crop, squash or pad")
    reference = min(height, width) if fit == "crop" else max(height, width)
    new_height, new_width = (
        size if side == reference else max(1, int(size * side / reference)) for side in (height, width)
    )
    resized = resize_image(rgb, new_height, new_width)
    # torchvision's CenterCrop rounds so. With "pad" both are negative or zero: minus the width of a bar.
    top, left = round((new_height - size) / 2.0), round((new_width - size) / 2.0)
    if fit == "crop":
        return np.ascontiguousarray(resized[top : top + size, left : left + size])
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[-top : new_height - top, -left : new_width - left] = resized
    return canvas
