"""The device engine and its resizing on the CPU: bit-equal to the kernels; `tests/gpu` has the rest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import LoaderError
from fastdc.kernels.views.view_batches import PLACE_NUMBERS, draw_view, place_views
from fastdc.loader import EvalView, LoaderRequest, TrainView, ViewRequest, open_loader, open_stream
from fastdc.loader.engines import device as device_engine
from fastdc.loader.engines.device import device_cache
from fastdc.loader.engines.device_resize import resize_views
from fastdc.loader.view_settings import View, view_numbers
from tests.loader.conftest import Shelf, jpeg, picture, write


def compare(height: int, width: int, view: View, seed: int, count: int = 3) -> None:
    """Make views of `count` images of noise both ways."""
    images = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    places, sides = np.zeros((count, PLACE_NUMBERS), np.int64), np.full(count, 0)
    place_views(view_numbers(view), seed, 1, np.arange(count), sides + height, sides + width, view.size, places)
    found = resize_views(torch.from_numpy(images), torch.from_numpy(places), view.size).numpy()
    for image, place, made in zip(images, places, found, strict=True):
        expected = np.zeros_like(made)
        draw_view(image, 0, place, view.size, np.zeros((2, 0), np.float32), expected.reshape(-1))
        assert np.array_equal(made, expected)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 120), st.integers(1, 120), st.integers(1, 120), st.integers(1, 4), st.booleans(), st.integers(0, 99)
)
def test_any_view_equals_the_kernels(height: int, width: int, size: int, grid: int, flip: bool, seed: int) -> None:
    compare(height, width, TrainView(size, tile_grid=grid, flip=flip), seed)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(600, 700, 9), (5, 4, 300), (1, 1, 50), (1, 900, 3), (900, 1, 64), (64, 64, 64), (512, 512, 224)],
)
def test_strong_shrinking_and_enlarging_equal_the_kernels(height: int, width: int, size: int) -> None:
    compare(height, width, TrainView(size, scale=(0.5, 1.0)), 0, count=2)
    compare(height, width, EvalView(size), 0, count=1)


@pytest.mark.parametrize(
    "view",
    [
        TrainView(24),
        TrainView(30, tile_grid=2),
        TrainView(30, tile_grid=2, tile_whole=0.5, tile_align=0.5),
        TrainView(80),
        EvalView(28),
    ],
    ids=["down", "tiles", "mixture", "up", "eval"],
)
@pytest.mark.parametrize("visits", [1, 7, 1 << 14], ids=["batch by batch", "one batch and a half", "at once"])
def test_batches_equal_those_of_the_resident_engine(
    shelf: Shelf, view: View, visits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_engine, "_CHUNK_VISITS", visits)
    common: dict[str, Any] = {"batch_size": 5, "seed": 4, "shuffle": True}
    with (
        open_loader(shelf.jpeg, view, engine="device", **common) as device,
        open_loader(shelf.jpeg, view, engine="resident", **common) as resident,
    ):
        assert device.engine == "device"
        for first, second in zip(device.epoch(3), resident.epoch(3), strict=True):
            assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize("visits", [7, 1 << 14], ids=["batch by batch", "at once"])
def test_several_training_views_equal_those_of_the_resident_engine(
    shelf: Shelf, visits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_engine, "_CHUNK_VISITS", visits)
    views = (TrainView(24), TrainView(24), TrainView(30, tile_grid=2))
    requests = tuple(ViewRequest(view, seed) for view, seed in zip(views, (4, 5, 4), strict=True))
    request = LoaderRequest(
        shelf.jpeg, (*requests, requests[0]), batch_size=5, order_seed=4, shuffle=True, engine="resident"
    )
    with open_stream(replace(request, engine="device")) as device, open_stream(request) as resident:
        assert (device.engine, resident.engine) == ("device", "resident")
        for made, expected in zip(device.epoch_views(3), resident.epoch_views(3), strict=True):
            assert len(made) == 4
            for first, second in zip(made, expected, strict=True):
                assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_images_of_several_sizes_are_refused_with_a_sample(shelf: Shelf) -> None:
    with pytest.raises(
        LoaderError, match=r"sample 0 is 40 x 60 pixels, sample 1 is 61 x 43 .* needs images of one size"
    ):
        open_loader(shelf.mixed, TrainView(8), batch_size=4, engine="device")
    with open_loader(
        shelf.mixed, EvalView(8), batch_size=4, engine="device"
    ) as loader:  # all of its views have one size
        assert next(loader.epoch(0)).images.shape == (4, 8, 8, 3)


def test_the_error_about_memory_has_numbers(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    device_cache(torch.device("cpu")).clear()
    monkeypatch.setattr(device_engine, "device_memory", lambda device: 100_000)
    message = r"its images take 0\.2 MB on cpu, where 0\.1 MB are free; use the resident"
    with pytest.raises(LoaderError, match=message) as found:
        open_loader(shelf.jpeg, TrainView(8), batch_size=4, engine="device")
    assert isinstance(found.value.__cause__, MemoryError)  # by which a sweep takes it for too little memory


def test_loaders_share_the_images(shelf: Shelf) -> None:
    with (
        open_loader(shelf.jpeg, TrainView(8), batch_size=4, engine="device") as first,
        open_loader(shelf.jpeg, TrainView(9), batch_size=4, seed=3, engine="device") as second,
    ):
        assert first._stream.images is second._stream.images  # type: ignore[attr-defined]


def test_a_set_of_many_chunks_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.beton", [jpeg(picture(20, 30, k)) for k in range(11)])
    monkeypatch.setattr(device_engine, "_CHUNK_BYTES", 4 * 20 * 30 * 3)
    with (
        open_loader(path, TrainView(16), batch_size=11, engine="device") as device,
        open_loader(path, TrainView(16), batch_size=11, engine="resident") as resident,
    ):
        assert torch.equal(next(device.epoch(0)).images, next(resident.epoch(0)).images)


def test_a_closed_loader_is_refused(shelf: Shelf) -> None:
    loader = open_loader(shelf.jpeg, TrainView(8), batch_size=4, engine="device")
    iterator = loader.epoch(0)
    next(iterator)
    loader.close()
    with pytest.raises(LoaderError, match="was closed"):
        next(iterator)
