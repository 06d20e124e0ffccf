"""Batches of views from one flat buffer: every share together make the batch, and each view is that of its image."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fastdc.kernels.batches import center_view, make_view, resident_share
from fastdc.loader.views import EvalView, TrainView, View, view_numbers

SHAPES = [(20, 30), (41, 17), (8, 8), (64, 64), (5, 50)]


@pytest.fixture
def images() -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]


def flat(images: list[NDArray[np.uint8]]) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    sizes = np.array([image.size for image in images])
    heights, widths = np.array(SHAPES).T.copy()
    return np.concatenate([image.reshape(-1) for image in images]), np.cumsum(sizes) - sizes, heights, widths


@pytest.mark.parametrize(
    "view", [TrainView(12), TrainView(12, tile_grid=3), EvalView(12)], ids=["one", "tiles", "eval"]
)
@pytest.mark.parametrize("shares", [1, 2, 7])
def test_the_shares_make_the_batch(images: list[NDArray[np.uint8]], view: View, shares: int) -> None:
    samples, numbers = np.array([4, 0, 2, 3, 1]), view_numbers(view)
    batch, single = np.zeros((5, 12, 12, 3), np.uint8), np.zeros((12, 12, 3), np.uint8)
    for share in range(shares):
        resident_share(*flat(images), samples, numbers, 9, 2, share, shares, batch)
    for position, sample in enumerate(samples):
        make_view(images[sample], numbers, 9, 2, sample, single)
        assert np.array_equal(batch[position], single)


def test_a_share_leaves_the_others_alone(images: list[NDArray[np.uint8]]) -> None:
    batch = np.full((5, 12, 12, 3), 255, np.uint8)
    resident_share(
        *flat([image // 2 for image in images]), np.arange(5), view_numbers(TrainView(12)), 9, 2, 1, 2, batch
    )
    assert [(view == 255).all() for view in batch] == [True, False, True, False, True]


def test_a_validation_view_ignores_seed_epoch_and_sample(images: list[NDArray[np.uint8]]) -> None:
    expected, view = np.zeros((12, 12, 3), np.uint8), np.zeros((12, 12, 3), np.uint8)
    center_view(images[0], 14, expected)
    make_view(images[0], view_numbers(EvalView(12, 14)), 3, 4, 5, view)
    assert np.array_equal(view, expected)
