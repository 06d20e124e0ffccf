"""Compare the Triton kernel with the CPU's, with TRITON_INTERPRET=1; `test_device_kernel.py` starts this."""

import re

import numpy as np
import pytest
import torch

from fastdc.kernels.views.view_batches import (
    HEIGHT,
    PLACE_NUMBERS,
    RESIZED_HEIGHT,
    RESIZED_WIDTH,
    WIDTH,
    draw_view,
    place_views,
)
from fastdc.loader import EvalView, TrainView
from fastdc.loader.engines import device_drawing, device_kernel
from fastdc.loader.engines.device_drawing import draw_views, kernel_fault
from fastdc.loader.engines.device_kernel import draw_on_device, most_taps
from fastdc.loader.stream import normal_levels
from fastdc.loader.view_settings import View, view_numbers

COUNT = 2


def places_of(view: View, height: int, width: int) -> np.ndarray:
    places, sides = np.zeros((COUNT, PLACE_NUMBERS), np.int64), np.zeros(COUNT, np.int64)
    place_views(view_numbers(view), 3, 1, np.arange(COUNT), sides + height, sides + width, view.size, places)
    return places


def expected(images: np.ndarray, places: np.ndarray, size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the views that the CPU's kernel draws, from images in reverse order."""
    plain = dtype == torch.uint8
    levels = np.zeros((2, 0), np.float32) if plain else np.ascontiguousarray(np.tile(normal_levels(), size))
    out = np.zeros((COUNT, size, size, 3), np.uint8 if plain else np.float32)
    for image, place, view in zip(images[::-1], places, out, strict=True):
        draw_view(np.ascontiguousarray(image), 0, place, size, levels, view.reshape(-1).view(np.uint8))
    return torch.from_numpy(out)


def drawn(images: np.ndarray, places: np.ndarray, size: int, dtype: torch.dtype) -> torch.Tensor:
    shrink = max(
        (places[:, HEIGHT] / places[:, RESIZED_HEIGHT]).max(), (places[:, WIDTH] / places[:, RESIZED_WIDTH]).max()
    )
    out = torch.empty((COUNT, size, size, 3), dtype=dtype)
    samples, levels = torch.arange(COUNT).flip(0), torch.from_numpy(normal_levels())
    draw_on_device(torch.from_numpy(images), samples, torch.from_numpy(places).int(), levels, out, most_taps(shrink))
    return out


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("height", "width", "view"),
    [
        (9, 13, TrainView(6)),
        (31, 5, TrainView(7, tile_grid=2)),
        (1, 1, TrainView(3)),
        (1, 40, TrainView(5, scale=(0.5, 1.0))),
        (40, 1, TrainView(5, scale=(0.5, 1.0))),
        (4, 5, TrainView(9)),
        (17, 11, EvalView(5, 7)),
    ],
    ids=["down", "tiles", "pixel", "row", "column", "up", "eval"],
)
def test_views_are_those_of_the_cpu(height: int, width: int, view: View, dtype: torch.dtype) -> None:
    images = np.random.default_rng(height).integers(0, 256, (COUNT, height, width, 3), dtype=np.uint8)
    places = places_of(view, height, width)
    assert torch.equal(drawn(images, places, view.size, dtype), expected(images, places, view.size, dtype))


def test_a_view_wider_than_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_kernel, "_MOST_COLUMNS", 4)
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    places = places_of(TrainView(7), 8, 8)
    assert torch.equal(drawn(images, places, 7, torch.uint8), expected(images, places, 7, torch.uint8))


@pytest.mark.parametrize(("shrink", "taps"), [(0.2, 4), (1.0, 4), (1.5, 8), (3.0, 8), (3.5, 16), (60.0, 128)])
def test_taps(shrink: float, taps: int) -> None:
    assert most_taps(shrink) == taps


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_views_of_chosen_images(dtype: torch.dtype) -> None:
    images = np.random.default_rng(5).integers(0, 256, (COUNT, 12, 9, 3), dtype=np.uint8)
    places = places_of(TrainView(6), 12, 9)
    samples = torch.arange(COUNT).flip(0)
    found = draw_views(torch.from_numpy(images), samples, torch.from_numpy(places).int(), 6, dtype)
    assert torch.equal(found, expected(images, places, 6, dtype))


def test_the_check_passes_and_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(device_drawing, "_SIZE", 6)
    monkeypatch.setattr(device_drawing, "_COUNT", 2)
    assert kernel_fault(cpu) == ""
    with monkeypatch.context() as patch:
        patch.setattr(device_kernel, "_ONE", (1 << 22) - 40_000)
        assert re.fullmatch(r"\d+ of 216 levels of Triton's kernel were different", kernel_fault(cpu))
    monkeypatch.setattr(device_kernel, "_draw", None)
    assert kernel_fault(cpu) == "Triton's kernel failed (TypeError: 'NoneType' object is not subscriptable)"
