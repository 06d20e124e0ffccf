"""Crop + resize + mirror against Pillow, rows first: equal to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fastdc.kernels.views.resize import resize_crop, resize_window

Box = tuple[int, int, int, int]


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return pixels over the whole range, which reveal any misplaced weight."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow_resized(image: NDArray[np.uint8], box: Box, sizes: list[tuple[int, int]], mirror: bool) -> NDArray[np.uint8]:
    """Return Pillow's crop, resized to one (width, height) after another."""
    top, left, box_height, box_width = box
    resized = Image.fromarray(image).crop((left, top, left + box_width, top + box_height))
    for size in sizes:
        resized = resized.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(ImageOps.mirror(resized) if mirror else resized)


def assert_equals_pillow(image: NDArray[np.uint8], box: Box, height: int, width: int, mirror: bool = False) -> None:
    """Check equality with Pillow's two passes, rows first; Pillow 13 may take columns first, one level off."""
    found = ours(image, box, height, width, mirror)
    assert np.array_equal(found, pillow_resized(image, box, [(width, box[2]), (width, height)], mirror))
    assert np.abs(found.astype(int) - pillow_resized(image, box, [(width, height)], mirror)).max() <= 1


def ours(image: NDArray[np.uint8], box: Box, height: int, width: int, mirror: bool = False) -> NDArray[np.uint8]:
    out = np.full((height, width, 3), 77, np.uint8)
    resize_crop(image, box, mirror, out)
    return out


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.uint8], Box, int, int, bool]:
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    box = (top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))
    sides = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    return noise(height, width, draw(st.integers(0, 100))), box, *sides, draw(st.booleans())


@settings(max_examples=300, deadline=None)
@given(cases())
def test_any_crop_to_any_size_equals_pillow(case: tuple[NDArray[np.uint8], Box, int, int, bool]) -> None:
    image, box, height, width, mirror = case
    assert_equals_pillow(image, box, height, width, mirror)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(1, 5000, 7), (5000, 1, 7), (1, 1, 224), (3000, 40, 5), (32, 33, 31), (64, 96, 32), (33, 31, 64)],
)
def test_extreme_shapes_equal_pillow(height: int, width: int, size: int) -> None:
    image, box = noise(height, width), (0, 0, height, width)
    assert_equals_pillow(image, box, size, size)


def test_white_and_black_stay_so_at_any_ratio() -> None:
    for value in (0, 255):
        image = np.full((217, 389, 3), value, np.uint8)
        for size in (1, 7, 100, 400):
            assert (ours(image, (3, 5, 211, 380), size, size) == value).all()


def test_the_same_size_copies() -> None:
    image = noise(40, 50)
    assert np.array_equal(ours(image, (3, 4, 30, 20), 30, 20), image[3:33, 4:24])


@pytest.mark.parametrize("mirror", [False, True])
def test_a_window_equals_that_part_of_the_whole(mirror: bool) -> None:
    image, out = noise(120, 171), np.zeros((50, 60, 3), np.uint8)
    resize_window(image, (0, 0, 120, 171), (90, 128), (13, 34), mirror, out)
    window = pillow_resized(image, (0, 0, 120, 171), [(128, 120), (128, 90)], False)[13:63, 34:94]
    assert np.array_equal(out, window[:, ::-1] if mirror else window)


def test_only_the_output_is_written() -> None:
    canvas = np.full((3, 20, 20, 3), 9, np.uint8)
    resize_crop(noise(50, 50), (0, 0, 50, 50), False, canvas[1])
    assert (canvas[[0, 2]] == 9).all()
