"""Batches of views in one flat buffer: the shares together make the batch, and each view is of its own image."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fastdc.kernels.views.resize import resize_crop
from fastdc.kernels.views.view_batches import PLACE_NUMBERS, finished_share, make_views, place_views, resident_share
from fastdc.loader.view_settings import EvalView, TrainView, View, view_numbers

SHAPES = [(20, 30), (41, 17), (8, 8), (64, 64), (5, 50)]


@pytest.fixture
def images() -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]


def flat(images: list[NDArray[np.uint8]]) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    sizes = np.array([image.size for image in images])
    heights, widths = np.array(SHAPES).T.copy()
    return np.concatenate([image.reshape(-1) for image in images]), np.cumsum(sizes) - sizes, heights, widths


def kernel_arguments(view: View, count: int = 1) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return (views, seeds, sides, levels) of `count` equal views of seeds 9, 10, ..."""
    return (
        np.tile(view_numbers(view), (count, 1)),
        np.arange(9, 9 + count),
        np.full(count, view.size),
        np.zeros((2, 0), np.float32),
    )


def single(image: NDArray[np.uint8], view: View, epoch: int, sample: int) -> NDArray[np.uint8]:
    out = np.zeros((view.size, view.size, 3), np.uint8)
    make_views(image, *kernel_arguments(view), epoch, sample, 0, 1, out.reshape(-1))
    return out


@pytest.mark.parametrize(
    "view", [TrainView(12), TrainView(12, tile_grid=3), EvalView(12)], ids=["one", "tiles", "eval"]
)
@pytest.mark.parametrize("shares", [1, 2, 7])
def test_the_shares_make_the_batch(images: list[NDArray[np.uint8]], view: View, shares: int) -> None:
    samples, batch = np.array([4, 0, 2, 3, 1]), np.zeros((5, 12, 12, 3), np.uint8)
    for share in range(shares):
        resident_share(*flat(images), samples, *kernel_arguments(view), 2, share, shares, batch.reshape(-1))
    for position, sample in enumerate(samples):
        assert np.array_equal(batch[position], single(images[sample], view, 2, sample))


def test_a_share_leaves_the_others_alone(images: list[NDArray[np.uint8]]) -> None:
    batch = np.full((5, 12, 12, 3), 255, np.uint8)
    dark = flat([image // 2 for image in images])
    resident_share(*dark, np.arange(5), *kernel_arguments(TrainView(12)), 2, 1, 2, batch.reshape(-1))
    assert [(view == 255).all() for view in batch] == [True, False, True, False, True]


def test_several_views_are_consecutive(images: list[NDArray[np.uint8]]) -> None:
    """Two requests, of seeds 9 and 10 and different sides."""
    views, seeds, _, levels = kernel_arguments(TrainView(12), 2)
    samples, sides = np.array([3, 1, 2]), np.array([12, 7])
    out = np.zeros(3 * (12 * 12 + 7 * 7) * 3, np.uint8)
    resident_share(*flat(images), samples, views, seeds, sides, levels, 2, 0, 1, out)
    start = 0
    for k, side in enumerate(sides):
        for sample in samples:
            alone = np.zeros(side * side * 3, np.uint8)
            make_views(images[sample], views[:1], seeds[k : k + 1], sides[k : k + 1], levels, 2, sample, 0, 1, alone)
            assert np.array_equal(out[start : start + alone.size], alone)
            start += alone.size
    assert start == out.size


def test_a_validation_view_ignores_seed_epoch_and_sample(images: list[NDArray[np.uint8]]) -> None:
    view = EvalView(12, 14)
    assert np.array_equal(single(images[0], view, 4, 5), single(images[0], view, 0, 0))


def test_normalised_views_are_the_levels_shifted_and_scaled(images: list[NDArray[np.uint8]]) -> None:
    views, seeds, sides, _ = kernel_arguments(TrainView(12))
    levels = np.tile(np.array([[10, 20, 30], [0.5, 0.25, 0.125]], np.float32), 12)
    out = np.zeros(12 * 12 * 3 * 4, np.uint8)
    make_views(images[1], views, seeds, sides, levels, 2, 1, 0, 1, out)
    expected = (single(images[1], TrainView(12), 2, 1).astype(np.float32) - levels[0, :3]) * levels[1, :3]
    assert np.array_equal(out.view(np.float32).reshape(12, 12, 3), expected)


@pytest.mark.parametrize("shares", [1, 3])
def test_finished_views_are_picked(shares: int) -> None:
    finished = np.random.default_rng(0).integers(0, 256, (6, 5 * 5 * 3), dtype=np.uint8)
    samples = np.array([4, 0, 5, 2])
    levels = np.tile(np.array([[10, 20, 30], [0.5, 0.25, 0.125]], np.float32), 8)  # longer rows than the view's
    plain, floats = np.zeros(4 * 75, np.uint8), np.zeros(4 * 75 * 4, np.uint8)
    for share in range(shares):
        finished_share(finished, samples, np.zeros((2, 0), np.float32), share, shares, plain)
        finished_share(finished, samples, levels, share, shares, floats)
    assert np.array_equal(plain.reshape(4, 75), finished[samples])
    expected = (finished[samples].reshape(4, 25, 3).astype(np.float32) - levels[0, :3]) * levels[1, :3]
    assert np.array_equal(floats.view(np.float32).reshape(4, 25, 3), expected)


def test_places_hold_the_boxes_of_the_views(images: list[NDArray[np.uint8]]) -> None:
    """Views drawn at the returned places equal those of the batch."""
    _, _, heights, widths = flat(images)
    view, places = TrainView(12), np.zeros((5, PLACE_NUMBERS), np.int64)
    place_views(view_numbers(view), 9, 2, np.arange(5), heights, widths, 12, places)
    for sample, (top, left, height, width, *_, mirror) in enumerate(places.tolist()):
        out = np.zeros((12, 12, 3), np.uint8)
        resize_crop(images[sample], (top, left, height, width), bool(mirror), out)
        assert np.array_equal(out, single(images[sample], view, 2, sample))
