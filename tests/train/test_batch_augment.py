"""Augmentation of batches against loops over pixels in float64, and the distribution of its random numbers."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.train.batch_augment import DSA_OPERATIONS, Draw, augment_batch, draw_augment
from fastdc.train.protocols import BatchAugment

Image = NDArray[np.float64]


def reference(
    operation: str, image: Image, uniform: NDArray[np.float64], normal: NDArray[np.float64], order: list[int]
) -> Image:
    """Augment one image [3, S, S] in float64, pixel by pixel."""
    side = image.shape[-1]
    if operation == "flip":
        return image[:, :, ::-1] if uniform[0] < 0.5 else image
    if operation == "color":
        image = image + (uniform[1] - 0.5)
        grey = sum(image) / 3
        image = np.stack([grey + (plane - grey) * uniform[2] * 2 for plane in image])
        return image.mean() + (image - image.mean()) * (uniform[3] + 0.5)
    if operation == "jitter":
        return jittered(image, uniform, normal, order)
    out = np.zeros_like(image)
    for y in range(side):
        for x in range(side):
            out[:, y, x] = pixel(operation, image, uniform, y, x)
    return out


def pixel(operation: str, image: Image, uniform: NDArray[np.float64], y: int, x: int) -> Image:
    side = image.shape[-1]
    if operation == "crop":
        most = math.floor(side / 8 + 0.5)
        row, column = (math.floor(u * (2 * most + 1)) - most for u in uniform[4:6])
        return read(image, y + row, x + column)
    if operation == "cutout":
        edge = math.floor(side / 2 + 0.5)
        top, left = (math.floor(u * (side + 1 - edge % 2)) - edge // 2 for u in uniform[6:8])
        inside = top <= y < top + edge and left <= x < left + edge
        return np.zeros(3) if inside else image[:, y, x]
    # coordinates from -1 to 1 over the image's edges, so that a pixel is 2 / S wide
    across, down = (2 * x + 1) / side - 1, (2 * y + 1) / side - 1
    if operation == "scale":
        across, down = (v * (1 / 1.2 + u * (1.2 - 1 / 1.2)) for v, u in zip((across, down), uniform[4:6], strict=True))
    else:
        turn = (2 * uniform[4] - 1) * math.pi / 12
        across, down = math.cos(turn) * across - math.sin(turn) * down, math.sin(turn) * across + math.cos(turn) * down
    left, top = ((v + 1) * side / 2 - 0.5 for v in (across, down))
    total = np.zeros(3)
    for row in (math.floor(top), math.floor(top) + 1):
        for column in (math.floor(left), math.floor(left) + 1):
            total += read(image, row, column) * (1 - abs(top - row)) * (1 - abs(left - column))
    return total


def read(image: Image, row: int, column: int) -> Image:
    """Return a pixel, 0 outside the image."""
    side = image.shape[-1]
    return image[:, row, column] if 0 <= row < side and 0 <= column < side else np.zeros(3)


def jittered(image: Image, uniform: NDArray[np.float64], normal: NDArray[np.float64], order: list[int]) -> Image:
    mean, std = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    levels = image * std + mean
    for which in order:
        share = 0.8 * uniform[1 + which] - 0.4
        grey = 0.299 * levels[0] + 0.587 * levels[1] + 0.114 * levels[2]
        target = (np.zeros_like(grey), np.full_like(grey, grey.mean()), grey)[which]
        levels = (1 - share) * levels + share * target
    components = [(-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203)]
    for strength, value, vector in zip(normal, (0.2175, 0.0188, 0.0045), components, strict=True):
        levels = levels + 0.1 * strength * value * np.array(vector)[:, None, None]
    return (levels - mean) / std


@pytest.mark.parametrize("side", [1, 5, 8, 28])
@pytest.mark.parametrize(
    "operations", [*[(name,) for name in (*DSA_OPERATIONS, "jitter")], ("flip", "color", "scale", "cutout")]
)
def test_operations_equal_loops_over_pixels(operations: tuple[str, ...], side: int) -> None:
    generator = np.random.default_rng(side)
    images = generator.normal(0, 1, (7, 3, side, side))
    normal, order = generator.standard_normal((7, 3)), np.stack([generator.permutation(3) for _ in range(7)])
    draw = Draw(operations, generator.random((7, 8)), normal, order)
    found = augment_batch(torch.from_numpy(images), draw)
    for number, image in enumerate(images):
        for operation in operations:
            image = reference(operation, image, draw.uniform[number], normal[number], order[number].tolist())
        assert np.abs(found[number].numpy() - image).max() < 1e-12
    single = augment_batch(torch.from_numpy(images).float(), draw)
    assert torch.allclose(single.double(), found, atol=2e-5)


def test_draws_depend_only_on_seed_epoch_step_and_batch() -> None:
    def flat(*address: int) -> tuple[object, ...]:
        draw = draw_augment("idc", *address)
        return draw.operations, *draw.uniform.flat, *draw.normal.flat, *draw.order.flat

    np.random.seed(1)
    torch.manual_seed(1)
    first = flat(3, 5, 7, 4)
    np.random.seed(2)
    torch.manual_seed(2)
    assert flat(3, 5, 7, 4) == first
    assert len({first, flat(4, 5, 7, 4), flat(3, 6, 7, 4), flat(3, 5, 8, 4)}) == 4


def drawn(kind: BatchAugment) -> list[Draw]:
    return [draw_augment(kind, 0, epoch, step, 8) for epoch in range(6) for step in range(500)]


def test_dsa_runs_one_of_six_operations_with_equal_chances() -> None:
    counts = Counter(draw.operations for draw in drawn("dsa"))
    assert {names for (names,) in counts} == set(DSA_OPERATIONS)
    # 3000 draws, 500 expected of each, standard deviation 20.4
    assert all(abs(count - 500) < 4.5 * 20.4 for count in counts.values())


def test_idc_flips_colours_warps_and_cuts_out() -> None:
    counts = Counter(draw.operations for draw in drawn("idc"))
    assert set(counts) == {("flip", "color", choice, "cutout") for choice in ("crop", "scale", "rotate")}
    assert all(abs(count - 1000) < 4.5 * 25.8 for count in counts.values())


def test_random_numbers_follow_their_distributions() -> None:
    draws = drawn("jitter")
    uniform = np.concatenate([draw.uniform for draw in draws])
    assert uniform.min() >= 0
    assert uniform.max() < 1
    for column in uniform.T:  # Kolmogorov and Smirnov's distance; 1.95 / sqrt(n) is p = .001
        assert np.abs(np.sort(column) - (np.arange(len(column)) + 0.5) / len(column)).max() < 1.95 / math.sqrt(
            len(column)
        )
    assert np.abs(np.corrcoef(uniform.T) - np.eye(8)).max() < 5 / math.sqrt(len(uniform))
    normal = np.concatenate([draw.normal for draw in draws])
    assert np.allclose(normal.mean(0), 0, atol=0.03)
    assert np.allclose(normal.std(0), 1, atol=0.03)
    orders = Counter(tuple(row) for draw in draws for row in draw.order.tolist())
    assert len(orders) == 6
    assert all(abs(count - 4000) < 4.5 * 57.7 for count in orders.values())


def test_moves_and_holes_are_uniform() -> None:
    """A ramp shows the origin of each pixel; an image of ones shows the hole."""
    side, batch = 8, 6000
    draw = draw_augment("dsa", 1, 0, 0, batch)
    ramp = torch.arange(1.0, side + 1).view(1, 1, side, 1).expand(batch, 3, side, side)
    moved = augment_batch(ramp, draw._replace(operations=("crop",)))
    rows = Counter((moved[:, 0, 3, 3] - 4).int().tolist())
    assert set(rows) == {-1, 0, 1}
    assert all(abs(count - 2000) < 4.5 * 36.5 for count in rows.values())
    holes = augment_batch(torch.ones(batch, 3, side, side), draw._replace(operations=("cutout",)))[:, 0] == 0
    edges = Counter(holes.any(2).sum(1).tolist())
    # nine places of a square of 4 pixels around the edges 0..8: two see 2 of its rows, two 3, five all 4
    assert edges.keys() == {2, 3, 4}
    assert abs(edges[4] - batch * 5 / 9) < 4.5 * 38.5
    assert abs(edges[2] - batch * 2 / 9) < 4.5 * 32.2


@pytest.mark.parametrize("kind", ["dsa", "idc", "jitter"])
def test_the_input_and_its_memory_format_are_unchanged(kind: BatchAugment) -> None:
    for step in range(12):
        images = torch.randn(5, 3, 6, 6).contiguous(memory_format=torch.channels_last)
        before = images.clone()
        changed = augment_batch(images, draw_augment(kind, 0, 0, step, 5))
        assert torch.equal(images, before)
        assert changed.is_contiguous(memory_format=torch.channels_last)
        assert changed.dtype == torch.float32
        assert torch.isfinite(changed).all()
