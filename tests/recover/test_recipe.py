"""The numbers of a recovery: curriculum, schedule, stages; which images share a batch; the shared view."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as vision

from fastdc.recover.finished_batches import batch_positions
from fastdc.recover.pixels import join_groups, noise_start
from fastdc.recover.recovery_recipe import Presets, Recipe, paper_at
from fastdc.recover.shared_view import draw_view


def test_curriculum_equals_cdas_cosine() -> None:
    recipe = Recipe(iterations=4000, milestone=1.0)
    assert recipe.crop_min_at(0) == 1.0
    assert recipe.crop_min_at(2000) == pytest.approx(0.54)
    assert recipe.crop_min_at(1000) == pytest.approx(0.08 + 0.92 * (1 + math.sqrt(0.5)) / 2)
    assert recipe.crop_min_at(3999) == pytest.approx(0.08, abs=1e-6)


def test_curriculum_ends_at_its_milestone() -> None:
    recipe = Recipe(iterations=100, milestone=0.5)
    assert recipe.crop_min_at(25) == pytest.approx(0.54)
    assert [recipe.crop_min_at(iteration) for iteration in (50, 51, 99)] == [0.08] * 3
    assert {Recipe().crop_min_at(iteration) for iteration in (0, 2000, 3999)} == {0.08}


def test_learning_rate_falls_by_a_cosine() -> None:
    recipe = Recipe(iterations=8, learning_rate=0.25)
    expected = [0.125 * (1 + np.cos(np.pi * iteration / 8)) for iteration in range(8)]
    np.testing.assert_allclose([recipe.learning_rate_at(iteration) for iteration in range(8)], expected)


def test_stages_equal_fadrms_at_224() -> None:
    recipe = Recipe(iterations=2000, stages=(200 / 224, 1.0, 200 / 224, 1.0))
    assert recipe.stage_sides(224) == {0: 200, 500: 224, 1000: 200, 1500: 224}
    assert Recipe().stage_sides(64) == {0: 64}


@pytest.mark.parametrize(("side", "expected"), [(28, 3), (32, 3), (33, 2), (64, 2), (127, 2), (128, 1), (224, 1)])
def test_presets_follow_the_stored_side(side: int, expected: int) -> None:
    presets = Presets(Recipe(iterations=1), Recipe(iterations=2), Recipe(iterations=3))
    assert presets.at(side).iterations == expected
    assert presets.named(paper_at(side)) is presets.at(side)


@given(st.sampled_from(["across", "class", "class_major"]), st.integers(1, 12), st.integers(1, 12), st.integers(1, 20))
def test_batches_hold_every_image_once(layout, classes: int, ipc: int, size: int) -> None:  # type: ignore[no-untyped-def]
    batches = batch_positions(layout, classes, ipc, size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(classes * ipc))
    assert max(map(len, batches)) <= size
    for positions in batches:
        labels, numbers = positions // ipc, positions % ipc
        if layout == "across":
            assert len(set(numbers.tolist())) == 1
            assert (np.diff(labels) == 1).all()
        elif layout == "class":
            assert len(set(labels.tolist())) == 1
        else:
            assert (np.diff(positions) == 1).all()


def test_groups_equal_delts() -> None:
    """10 images in 8 rounds are two in each of the first two, then one each; 100 in 8 are 13 four times, then 12."""
    assert join_groups(10, np.arange(10), 8).tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7]
    assert np.bincount(join_groups(100, np.arange(200), 8)).tolist() == [26] * 4 + [24] * 4
    assert join_groups(1, np.arange(5), 8).tolist() == [0] * 5
    assert join_groups(3, np.arange(6), 8).tolist() == [0, 1, 2, 0, 1, 2]


@settings(deadline=None)  # numba compiles in the first
@given(st.integers(0, 10**6), st.integers(0, 500), st.integers(0, 4000))
def test_view_equals_torchvisions(seed: int, batch: int, iteration: int) -> None:
    images = noise_start([0, 1], 20, 7)
    view = draw_view(Recipe(jitter=5), seed, batch, iteration, 20)
    expected = vision.resized_crop(images, *view.box, [20, 20], antialias=False)
    if view.mirror:
        expected = vision.hflip(expected)
    expected = torch.roll(expected, view.roll, (2, 3))
    torch.testing.assert_close(view(images, 20), expected)
    assert view == draw_view(Recipe(jitter=5), seed, batch, iteration, 20)


def test_views_follow_their_recipe() -> None:
    views = [draw_view(Recipe(jitter=3, milestone=1.0), 5, 0, iteration, 64) for iteration in range(4000)]
    areas = np.array([view.box[2] * view.box[3] / 64**2 for view in views])
    assert (areas[:40] > 0.9).all()
    assert areas[-400:].min() < 0.12
    assert areas[-400:].max() > 0.85
    assert np.mean([view.mirror for view in views]) == pytest.approx(0.5, abs=0.03)
    rolls = np.bincount([view.roll[0] for view in views], minlength=4) / 4000
    np.testing.assert_allclose(rolls, 0.25, atol=0.03)
    assert len({view.roll for view in views}) == 16


def test_views_can_be_rolled_both_ways_alone_or_shifted_in_a_margin() -> None:
    signed = [draw_view(Recipe(jitter=3, jitter_signed=True), 5, 0, iteration, 64) for iteration in range(4000)]
    rolls = np.bincount([view.roll[0] + 3 for view in signed], minlength=7) / 4000
    np.testing.assert_allclose(rolls, 1 / 7, atol=0.03)
    assert len({view.roll for view in signed}) == 49
    alone = [draw_view(Recipe(jitter=3, crop_min=1.0, flip=False), 5, 0, iteration, 64) for iteration in range(4000)]
    assert {(view.box, view.mirror) for view in alone} == {((0, 0, 64, 64), False)}
    shifted = [draw_view(Recipe(jitter=0, margin=2), 5, 0, iteration, 64) for iteration in range(4000)]
    assert {view.box for view in shifted} == {(down, right, 64, 64) for down in range(5) for right in range(5)}
    assert np.mean([view.mirror for view in shifted]) == pytest.approx(0.5, abs=0.03)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4000))
def test_a_margin_equals_torchvisions_random_crop_with_padding(seed: int, iteration: int) -> None:
    images = noise_start([0, 1], 20, 7)
    view = draw_view(Recipe(jitter=0, margin=4, flip=False), seed, 0, iteration, 20)
    expected = vision.crop(vision.pad(images, [4] * 4), view.box[0], view.box[1], 20, 20)
    assert torch.equal(view(images, 20), expected)


def test_noise_depends_on_position_alone() -> None:
    whole = noise_start([0, 1, 2, 3], 16, 9)
    torch.testing.assert_close(noise_start([2, 0], 16, 9), whole[[2, 0]], rtol=0, atol=0)
    assert float(whole.std()) == pytest.approx(1, abs=0.05)
    assert not torch.equal(noise_start([0], 16, 10)[0], whole[0])
