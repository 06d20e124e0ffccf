"""Mosaics of whole images, made by a method or remade from its list."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import encode_jpeg_within, fit_image, resize_image
from fastdc.common.errors import MethodError
from fastdc.methods.bases.method import Mosaic
from fastdc.methods.bases.method_config import Fit


def store_mosaics(
    image: Callable[[int], NDArray[np.uint8]], sources: NDArray[np.int64], size: int, mosaic: Mosaic
) -> Iterator[NDArray[np.uint8] | bytes]:
    """Make one mosaic per row of `sources`: pixels, or JPEG files if `mosaic.max_bytes` is given.

    Args:
        image, sources: as in `make_mosaics`.
        size: side S in pixels, used unless the mosaic has a side of its own.

    Raises:
        MethodError: a mosaic exceeds `max_bytes` even at the lowest quality.
    """
    for number, pixels in enumerate(make_mosaics(image, sources, mosaic.side or size, mosaic)):
        yield pixels if mosaic.max_bytes is None else _packed(pixels, mosaic.max_bytes, number)


def _packed(pixels: NDArray[np.uint8], max_bytes: int, number: int) -> bytes:
    file, quality = encode_jpeg_within(pixels, max_bytes)
    if len(file) > max_bytes:
        raise MethodError(
            f"mosaic {number} has {len(file):,} bytes at JPEG quality {quality}, expected at most {max_bytes:,}; "
            "take a smaller grid"
        )
    return file


def make_mosaics(
    image: Callable[[int], NDArray[np.uint8]], sources: NDArray[np.int64], size: int, mosaic: Mosaic
) -> Iterator[NDArray[np.uint8]]:
    """Make one [S, S, 3] mosaic per row of `sources`, tiles in row-major order.

    Args:
        image: decodes training image i to RGB uint8 [H, W, 3].
        sources: int64 [M, grid**2], the training images of each mosaic.
        size: side S in pixels.
    """
    # Imported here because numba takes half a second to import.
    from fastdc.kernels.views.boxes import tile_box
    from fastdc.kernels.views.mosaics import combine

    tile = -(-size // mosaic.grid)  # ceiling: the largest tile, where grid does not divide size
    sides = [tile_box(size, size, mosaic.grid, position)[2:] for position in range(mosaic.grid**2)]
    for row in sources:
        images = [image(int(index)) for index in row]
        if mosaic.view is not None:
            images = [central_view(each, size, round(mosaic.view * size)) for each in images]
        # `combine` resizes with antialiasing, so nearest pixels must already have the exact size of their tile.
        if mosaic.resize == "nearest":
            images = [nearest(each, *side, mosaic.fit) for each, side in zip(images, sides, strict=True)]
        elif mosaic.fit != "squash":  # `combine` squashes by itself
            images = [fit_image(each, tile, mosaic.fit) for each in images]
        yield combine(images, size, mosaic.grid)


def nearest(image: NDArray[np.uint8], height: int, width: int, fit: Fit) -> NDArray[np.uint8]:
    """Resize an image to height x width by nearest pixels, as torch's `interpolate(mode="nearest")` picks them.

    A `crop` or `pad` first frames the image at its own resolution.
    """
    if fit != "squash":
        sides = image.shape[:2]
        image = fit_image(image, min(sides) if fit == "crop" else max(sides), fit)
    # Pixel i of n takes source pixel floor(i * length / n), as torch does: no half-pixel shift.
    rows, columns = (np.arange(n) * length // n for n, length in zip((height, width), image.shape[:2], strict=True))
    return np.ascontiguousarray(image[rows[:, None], columns[None, :]])


def central_view(rgb: NDArray[np.uint8], size: int, resize: int) -> NDArray[np.uint8]:
    """Resize the shorter side to `resize`, then cut the central `size` x `size` pixels, as in validation."""
    # Imported here because numba takes half a second to import.
    from fastdc.kernels.views.boxes import center_offset, resized_sides

    height, width = resized_sides(rgb.shape[0], rgb.shape[1], resize)
    top, left = center_offset(height, size), center_offset(width, size)
    return np.ascontiguousarray(resize_image(rgb, height, width)[top : top + size, left : left + size])
