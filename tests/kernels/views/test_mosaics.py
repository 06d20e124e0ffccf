"""Mosaics against those made with Pillow."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastdc.kernels.views.mosaics import combine


def noise(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow_mosaic(sources: list[NDArray[np.uint8]], size: int, grid: int) -> NDArray[np.uint8]:
    edges = [round(k * size / grid) for k in range(grid + 1)]
    canvas = Image.new("RGB", (size, size))
    for position, source in enumerate(sources):
        row, column = divmod(position, grid)
        tile = (edges[column + 1] - edges[column], edges[row + 1] - edges[row])
        canvas.paste(Image.fromarray(source).resize(tile, Image.Resampling.BILINEAR), (edges[column], edges[row]))
    return np.asarray(canvas)


@pytest.mark.parametrize(("size", "grid"), [(224, 2), (224, 1), (28, 2), (64, 3), (100, 7), (5, 5), (32, 4)])
def test_mosaic_equals_pillows(size: int, grid: int) -> None:
    sources = [noise(20 + 13 * k % 300, 300 - 17 * k % 290, k) for k in range(grid * grid)]
    difference = combine(sources, size, grid).astype(int) - pillow_mosaic(sources, size, grid)
    assert np.abs(difference).max() <= 1  # the order of passes, see kernels/resize.py


@pytest.mark.parametrize(("size", "grid"), [(224, 2), (28, 2), (33, 3)])
def test_mosaic_of_square_images_equals_pillows_exactly(size: int, grid: int) -> None:
    sources = [noise(20 + 30 * k, 20 + 30 * k, k) for k in range(grid * grid)]
    assert np.array_equal(combine(sources, size, grid), pillow_mosaic(sources, size, grid))


def test_read_only_and_strided_sources_are_taken() -> None:
    wide = noise(40, 80, 1)
    frozen = wide.copy()
    frozen.setflags(write=False)
    sources = [wide[:, ::2], frozen, wide[::-1], wide]
    assert np.array_equal(combine(sources, 30, 2), combine([source.copy() for source in sources], 30, 2))


def test_a_wrong_number_of_sources_is_refused() -> None:
    with pytest.raises(ValueError, match="3 sources: expected 4"):
        combine([noise(4, 4, 0)] * 3, 8, 2)


@pytest.mark.parametrize("grid", [0, 9, -1])
def test_a_grid_larger_than_the_image_is_refused(grid: int) -> None:
    with pytest.raises(ValueError, match=r"expected 1\.\.8 tiles"):
        combine([noise(4, 4, 0)], 8, grid)


@pytest.mark.parametrize(
    "source",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_a_source_other_than_rgb_is_refused(source: NDArray) -> None:
    with pytest.raises(ValueError, match=r"source 0: .* expected uint8"):
        combine([source], 8, 1)
