"""Mosaics of whole images, made by a method or made again from its list."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import fit_image
from fastdc.methods.base import Mosaic


def make_mosaics(
    image: Callable[[int], NDArray[np.uint8]], sources: NDArray[np.int64], size: int, mosaic: Mosaic
) -> Iterator[NDArray[np.uint8]]:
    """Make one [S, S, 3] mosaic per row of `sources`, tiles in row-major order.

    Args:
        image: decodes training image i to RGB uint8 [H, W, 3].
        sources: int64 [M, grid**2], the training images of each mosaic.
        size: side S in pixels.
    """
    from fastdc.kernels.mosaics import combine  # loads numba

    tile = -(-size // mosaic.grid)
    for row in sources:
        images = [image(int(index)) for index in row]
        if mosaic.fit != "squash":  # `combine` squashes by itself
            images = [fit_image(each, tile, mosaic.fit) for each in images]
        yield combine(images, size, mosaic.grid)
