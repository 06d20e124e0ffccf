"""Crop boxes against torchvision's distribution, a float64 reference, and torchvision's CenterCrop and Resize."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from torchvision import transforms

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.core.rng import draw_bits, draw_unit, stream_key
from fastdc.kernels.views.boxes import (
    center_offset,
    random_crop_in_window,
    random_flip,
    random_resized_crop,
    random_window,
    resized_sides,
    tile_box,
)

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
SIDES = [(224, 224), (160, 213), (33, 500), (500, 33), (28, 28), (5, 3), (2, 2), (1, 9)]


def reference_box(key: np.uint64, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]):
    """Compute torchvision's get_params in Python's float64, with fastdc's draws in place of torch's."""
    for attempt in range(10):
        target = height * width * (scale[0] + (scale[1] - scale[0]) * draw_unit(key, 4 * attempt))
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + (high - low) * draw_unit(key, 4 * attempt + 1))
        box_width, box_height = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = (
                ((int(draw_bits(key, 4 * attempt + number)) >> 32) * count) >> 32
                for number, count in ((2, height - box_height + 1), (3, width - box_width + 1))
            )
            return top, left, box_height, box_width
    aspect = width / height
    box_height, box_width = height, width
    if aspect < ratio[0]:
        box_height = max(round(width / ratio[0]), 1)
    elif aspect > ratio[1]:
        box_width = max(round(height * ratio[1]), 1)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def key_of(seed: int, epoch: int, sample: int) -> np.uint64:
    return np.uint64(stream_key(seed, epoch, sample))


@kernel
def crop_many(height: int, width: int, grid: int, out: NDArray[np.int64]) -> None:
    for sample in range(out.shape[0]):
        key = stream_key(7, 0, sample)
        out[sample] = np.array(
            random_crop_in_window(key, random_window(key, height, width, grid, 0.0, 1.0), 0.08, 1.0, 3 / 4, 4 / 3)
        )


def our_boxes(height: int, width: int, count: int = 10_000, grid: int = 1) -> NDArray[np.int64]:
    out = np.empty((count, 4), np.int64)
    crop_many(height, width, grid, out)
    return out


def torchvision_boxes(height: int, width: int, count: int = 10_000) -> NDArray[np.int64]:
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    get_params = transforms.RandomResizedCrop.get_params
    return np.array([get_params(image, list(SCALE), list(RATIO)) for _ in range(count)])


def describe(boxes: NDArray[np.int64], height: int, width: int) -> dict[str, NDArray[np.float64]]:
    top, left, box_height, box_width = boxes.T.astype(float)
    return {
        "area": box_height * box_width,
        "aspect": box_width / box_height,
        "top": top,
        "left": left,
        "free place": top / np.maximum(height - box_height, 1) + left / np.maximum(width - box_width, 1),
    }


def kolmogorov_smirnov(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the largest distance of two empirical distribution functions, in units of its scale under equality."""
    points = np.union1d(first, second)
    below = [np.searchsorted(np.sort(sample), points, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(below[0] - below[1]).max() * math.sqrt(len(first) * len(second) / (len(first) + len(second))))


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_boxes_follow_torchvisions_distribution(height: int, width: int) -> None:
    ours = describe(our_boxes(height, width), height, width)
    theirs = describe(torchvision_boxes(height, width), height, width)
    for name in ours:
        assert kolmogorov_smirnov(ours[name], theirs[name]) < 2.2, name  # passed by chance with p < 1e-4 if unequal


def test_another_distribution_of_boxes_is_detected() -> None:
    """The statistic above detects a wrong distribution: a scale of (0.12, 1) instead of (0.08, 1)."""
    image = torch.empty(3, 224, 224)
    torch.manual_seed(0)
    wrong = np.array([transforms.RandomResizedCrop.get_params(image, [0.12, 1.0], list(RATIO)) for _ in range(10_000)])
    ours, theirs = describe(our_boxes(224, 224), 224, 224), describe(wrong, 224, 224)
    assert kolmogorov_smirnov(ours["area"], theirs["area"]) > 2.2


@settings(deadline=None)  # the first call may compile
@given(
    st.integers(1, 600),
    st.integers(1, 600),
    st.integers(0, 2**62),
    st.sampled_from([SCALE, (0.5, 1.0), (1.0, 1.0), (0.01, 0.02)]),
    st.sampled_from([RATIO, (1.0, 1.0), (0.25, 0.5), (2.0, 4.0)]),
)
def test_every_box_equals_the_reference(
    height: int, width: int, seed: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    key = key_of(seed, 3, 5)
    box = random_resized_crop(key, height, width, *scale, *ratio)
    expected = reference_box(key, height, width, scale, ratio)
    assert box == expected


@settings(deadline=None)  # the first call may compile
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 5), st.integers(0, 10_000))
def test_every_box_lies_in_exactly_one_tile(height: int, width: int, grid: int, sample: int) -> None:
    key = key_of(1, 2, sample)
    window = random_window(key, height, width, grid, 0.0, 1.0)
    top, left, box_height, box_width = random_crop_in_window(key, window, *SCALE, *RATIO)
    tiles = [tile_box(height, width, grid, position) for position in range(grid * grid)]
    assert any(
        t <= top and left_edge <= left and top + box_height <= t + h and left + box_width <= left_edge + w
        for t, left_edge, h, w in tiles
    )


def test_tiles_are_chosen_evenly() -> None:
    boxes = our_boxes(100, 100, grid=2)
    tiles = (boxes[:, 0] >= 50) * 2 + (boxes[:, 1] >= 50)
    assert abs(np.bincount(tiles, minlength=4) - 2500).max() < 6 * math.sqrt(10_000 * 0.25 * 0.75)


def test_boxes_in_a_tile_follow_torchvisions_distribution() -> None:
    boxes = our_boxes(200, 120, grid=2) % np.array([100, 60, 1000, 1000])
    ours, theirs = describe(boxes, 100, 60), describe(torchvision_boxes(100, 60), 100, 60)
    for name in ours:
        assert kolmogorov_smirnov(ours[name], theirs[name]) < 2.2, name


@settings(deadline=None)  # the first call may compile
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 6))
def test_tiles_have_rounded_edges_and_cover_the_image(height: int, width: int, grid: int) -> None:
    covered = np.zeros((height, width), int)
    for position in range(grid * grid):
        top, left, tile_height, tile_width = tile_box(height, width, grid, position)
        if min(height, width) >= grid:
            assert (top, left) == (round(position // grid * height / grid), round(position % grid * width / grid))
        assert min(tile_height, tile_width) >= 1
        covered[top : top + tile_height, left : left + tile_width] += 1
    assert covered.min() >= 1
    if min(height, width) >= grid:
        assert covered.max() == 1


def test_flips_are_fair_and_independent_of_boxes() -> None:
    flips = np.array([random_flip(key_of(7, 0, sample)) for sample in range(10_000)])
    assert abs(flips.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(flips, our_boxes(224, 224)[:, 3])[0, 1]) < 0.05


@settings(deadline=None)  # the first call may compile
@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 300))
def test_resized_sides_equal_torchvisions(height: int, width: int, side: int) -> None:
    if max(height, width) / min(height, width) * side > 4000:
        side = 1
    resized = transforms.Resize(side)(Image.new("L", (width, height)))
    assert resized_sides(height, width, side) == (resized.height, resized.width)


@settings(deadline=None)  # the first call may compile
@given(st.integers(1, 300), st.integers(0, 300))
def test_center_offset_equals_torchvisions(size: int, more: int) -> None:
    image = torch.arange(size + more).reshape(1, 1, -1)
    assert center_offset(size + more, size) == transforms.CenterCrop((1, size))(image)[0, 0, 0]


@kernel
def windows_of(height: int, width: int, grid: int, whole: float, align: float, out: NDArray[np.int64]) -> None:
    for sample in range(out.shape[0]):
        out[sample] = np.array(random_window(stream_key(3, 1, sample), height, width, grid, whole, align))


def windows(whole: float, align: float, side: int = 90, grid: int = 3, count: int = 20_000) -> NDArray[np.int64]:
    out = np.empty((count, 4), np.int64)
    windows_of(side, side, grid, whole, align, out)
    return out


@pytest.mark.parametrize("whole", [0.0, 0.25, 0.5, 1.0])
def test_share_of_visits_that_see_the_whole_mosaic(whole: float) -> None:
    found = windows(whole, 1.0)
    complete = (found[:, 2] == 90) & (found[:, 3] == 90)
    assert complete.mean() == pytest.approx(whole, abs=4 * math.sqrt(0.25 / len(found)))
    assert (found[~complete, 2:] == 30).all()
    assert (found[~complete, :2] % 30 == 0).all()


@pytest.mark.parametrize("align", [0.0, 0.6, 1.0])
def test_share_of_visits_that_see_a_tile(align: float) -> None:
    found = windows(0.0, align)
    aligned = (found[:, :2] % 30 == 0).all(axis=1)
    by_chance = 9 / 61**2  # free windows that lie on a tile
    expected = align + (1 - align) * by_chance
    assert aligned.mean() == pytest.approx(expected, abs=4 * math.sqrt(0.25 / len(found)))
    assert (found[:, 2:] == 30).all()
    assert (found[:, :2] >= 0).all()
    assert (found[:, :2] + 30 <= 90).all()


def test_free_windows_are_uniform() -> None:
    found = windows(0.0, 0.0)
    for axis in (0, 1):
        counts = np.bincount(found[:, axis], minlength=61)
        assert counts.min() > 0
        assert stats.chisquare(counts).pvalue > 1e-4


def test_the_share_of_whole_mosaics_changes_no_other_draw() -> None:
    """A visit to a tile shows the same one for every share, because each draw has its own number."""
    pure, mixed = windows(0.0, 1.0), windows(0.3, 1.0)
    tiles = mixed[:, 2] == 30
    np.testing.assert_array_equal(mixed[tiles], pure[tiles])
