"""Crops against Pillow's, at boxes computed here from the definition and the random numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fastdc.kernels.core.rng import draw
from fastdc.kernels.views.mosaics import combine_crops
from fastdc.loader import TrainView
from fastdc.loader.view_settings import view_numbers
from tests.kernels.views.test_mosaics import noise

Box = tuple[int, int, int, int]


def drawn_box(seed: int, sample: int, height: int, width: int, view: TrainView) -> Box:
    """(left, top, right, bottom) of RandomResizedCrop, as torchvision documents it."""
    for attempt in range(10):
        numbers = [draw(seed, 0, sample, 4 * attempt + part) for part in range(4)]
        area = height * width * (view.scale[0] + (view.scale[1] - view.scale[0]) * numbers[0])
        low, high = math.log(view.ratio[0]), math.log(view.ratio[1])
        aspect = math.exp(low + (high - low) * numbers[1])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(numbers[2] * (height - h + 1)), int(numbers[3] * (width - w + 1))
            return left, top, left + w, top + h
    side = min(height, width)
    assert view.ratio == (1.0, 1.0), "the fallback of other ratios is tests/kernels/test_boxes.py's"
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def pillow_crop(source: NDArray[np.uint8], box: Box, tile: tuple[int, int], mirror: bool = False) -> Image.Image:
    crop = Image.fromarray(source).crop(box).resize(tile, Image.Resampling.BILINEAR)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else crop


def test_a_mosaic_of_crops_equals_pillows() -> None:
    view = TrainView(16, ratio=(1.0, 1.0), flip=False)
    sources = [noise(50, 40, 0), noise(31, 90, 1), noise(64, 64, 2), noise(20, 21, 3)]
    seeds, samples = [5, 6, 5, 7], [11, 2**40, 0, 3]
    mosaic = combine_crops(sources, view_numbers(view), seeds, samples, 32, 2)
    expected = Image.new("RGB", (32, 32))
    for k, source in enumerate(sources):
        box = drawn_box(seeds[k], samples[k], *source.shape[:2], view)
        assert box[2] - box[0] == box[3] - box[1], "ratio 1 means squares"
        expected.paste(pillow_crop(source, box, (16, 16)), (k % 2 * 16, k // 2 * 16))
    assert np.array_equal(mosaic, np.asarray(expected))


def test_crops_are_mirrored_by_their_draw() -> None:
    view, source = TrainView(12, ratio=(1.0, 1.0)), noise(40, 40, 0)
    mirrored = 0
    for sample in range(40):
        crop = combine_crops([source], view_numbers(view), [3], [sample], 12, 1)
        mirror = draw(3, 0, sample, 60) < 0.5
        mirrored += mirror
        expected = pillow_crop(source, drawn_box(3, sample, 40, 40, view), (12, 12), mirror)
        assert np.array_equal(crop, np.asarray(expected))
    assert 10 <= mirrored <= 30


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    size=st.integers(1, 48),
    seed=st.integers(0, 2**62),
    sample=st.integers(0, 2**62),
    low=st.floats(0.01, 1.0),
)
def test_one_crop_equals_pillows(height: int, width: int, size: int, seed: int, sample: int, low: float) -> None:
    view, source = TrainView(size, (low, 1.0), (1.0, 1.0), False), noise(height, width, height + width)
    crop = combine_crops([source], view_numbers(view), [seed], [sample], size, 1)
    expected = pillow_crop(source, drawn_box(seed, sample, height, width, view), (size, size))
    assert np.array_equal(crop, np.asarray(expected))


@pytest.mark.parametrize(("size", "grid"), [(33, 2), (28, 3), (7, 7)])
def test_tiles_cover_a_mosaic_of_odd_side(size: int, grid: int) -> None:
    numbers = view_numbers(TrainView(4, ratio=(1.0, 1.0), flip=False))
    sources = [np.full((9, 9, 3), 10 + k, np.uint8) for k in range(grid * grid)]
    mosaic = combine_crops(sources, numbers, [0] * grid**2, [0] * grid**2, size, grid)
    edges = [round(k * size / grid) for k in range(grid + 1)]
    for k in range(grid * grid):
        row, column = divmod(k, grid)
        assert (mosaic[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] == 10 + k).all()


def test_wrong_requests_are_refused() -> None:
    numbers = view_numbers(TrainView(4))
    with pytest.raises(ValueError, match=r"expected 1\.\.8 tiles"):
        combine_crops([noise(4, 4, 0)], numbers, [0], [0], 8, 9)
    with pytest.raises(ValueError, match="4 sources, 4 seeds, 1 samples: expected 4"):
        combine_crops([noise(4, 4, 0)] * 4, numbers, [0] * 4, [0], 8, 2)
