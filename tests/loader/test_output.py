"""Normalised batches: equal to `Compute.images` of 8-bit ones, bit for bit and in the same memory order."""

from typing import Any

import pytest
import torch

from fastdc.common.errors import ConfigError
from fastdc.loader import EvalView, TrainView, open_loader
from fastdc.nn.device import Compute
from tests.loader.conftest import Shelf

CPU = Compute(torch.device("cpu"), "fp32", 1)


@pytest.mark.parametrize("engine", ["ffcv", "resident", "device"])
@pytest.mark.parametrize("view", [TrainView(30), TrainView(1), EvalView(29)], ids=["train", "pixel", "eval"])
def test_float_batches_are_the_normalised_levels(shelf: Shelf, view: Any, engine: Any) -> None:
    with (
        open_loader(shelf.jpeg, view, batch_size=5, seed=2, engine="resident") as levels,
        open_loader(shelf.jpeg, view, batch_size=5, seed=2, engine=engine, output="float32") as floats,
    ):
        for first, second in zip(levels.epoch(1), floats.epoch(1), strict=True):
            expected = CPU.images(first.images)
            assert torch.equal(second.images, expected)
            assert second.images.stride() == expected.stride()
            assert CPU.images(second.images) is second.images


def test_an_unknown_output_is_refused(shelf: Shelf) -> None:
    with pytest.raises(ConfigError, match="output 'float16' does not exist, expected uint8 or float32"):
        open_loader(shelf.jpeg, TrainView(8), batch_size=4, output="float16")  # type: ignore[arg-type]


@pytest.mark.parametrize(("device", "message"), [("mps", "expected cpu or cuda"), ("cup", "device 'cup'")])
def test_an_unknown_device_is_refused(shelf: Shelf, device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_loader(shelf.jpeg, TrainView(8), batch_size=4, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_refused(shelf: Shelf) -> None:
    with pytest.raises(ConfigError, match="torch finds no CUDA device here"):
        open_loader(shelf.jpeg, TrainView(8), batch_size=4, device="cuda")
