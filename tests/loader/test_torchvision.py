"""Views against torchvision on Pillow images: decoding, boxes, resizing and centre crop together, within one level."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

from fastdc.beton import BetonFile
from fastdc.common.choices import EngineChoice
from fastdc.common.keys import derive_seed
from fastdc.kernels.core.rng import stream_key
from fastdc.kernels.views.boxes import random_crop_in_window, random_flip, random_window
from fastdc.loader import EvalView, TrainView, open_loader
from tests.loader.conftest import Shelf

ENGINES: tuple[EngineChoice, ...] = ("resident", "ffcv")


def pillow_image(file: BetonFile, sample: int) -> Image.Image:
    """Return the stored image as Pillow decodes it."""
    payload = bytes(file.payload(sample))
    if file.modes[sample] == 0:
        return Image.open(io.BytesIO(payload)).convert("RGB")
    height, width = int(file.heights[sample]), int(file.widths[sample])
    return Image.fromarray(np.frombuffer(payload, np.uint8).reshape(height, width, 3))


def assert_within_one_level(view: torch.Tensor, expected: Image.Image) -> None:
    difference = view.numpy().astype(int) - np.asarray(expected).astype(int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("view", [TrainView(40), TrainView(40, tile_grid=2, scale=(0.3, 1.0))], ids=["whole", "tiles"])
def test_training_views_equal_torchvisions_resized_crop(shelf: Shelf, view: TrainView, engine: EngineChoice) -> None:
    seed, epoch = derive_seed(11, "augment"), 6
    with BetonFile(shelf.mixed) as file, open_loader(shelf.mixed, view, batch_size=9, seed=11, engine=engine) as loader:
        for batch in loader.epoch(epoch):
            for image, sample in zip(batch.images, batch.indices.tolist(), strict=True):
                key = np.uint64(stream_key(seed, epoch, sample))
                source = pillow_image(file, sample)
                window = random_window(key, source.height, source.width, view.tile_grid, 0.0, 1.0)
                box = random_crop_in_window(key, window, *view.scale, *view.ratio)
                expected = functional.resized_crop(source, *box, [40, 40])
                assert_within_one_level(image, functional.hflip(expected) if random_flip(key) else expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("size", "resize"), [(28, 32), (100, 0), (33, 33), (7, 50)])
def test_validation_views_equal_torchvisions(shelf: Shelf, size: int, resize: int, engine: EngineChoice) -> None:
    view = EvalView(size, resize)
    reference = transforms.Compose([transforms.Resize(view.resize), transforms.CenterCrop(size)])
    with BetonFile(shelf.mixed) as file, open_loader(shelf.mixed, view, batch_size=9, engine=engine) as loader:
        for batch in loader.epoch(0):
            for image, sample in zip(batch.images, batch.indices.tolist(), strict=True):
                assert_within_one_level(image, reference(pillow_image(file, sample)))


def test_flips_happen_half_of_the_time_and_only_if_enabled(shelf: Shelf) -> None:
    scale, ratio = (1.0, 1.0), (64 / 48, 64 / 48)  # the whole image, so that only the flip is random
    flipped = []
    with (
        open_loader(shelf.raw, TrainView(48, scale, ratio), batch_size=50, engine="resident") as random,
        open_loader(shelf.raw, TrainView(48, scale, ratio, flip=False), batch_size=50, engine="resident") as fixed,
    ):
        still = next(fixed.epoch(0)).images
        for epoch in range(40):
            images = next(random.epoch(epoch)).images
            assert torch.equal(next(fixed.epoch(epoch)).images, still)
            mirrored = (images == still.flip(2)).flatten(1).all(1)
            assert torch.equal(mirrored, ~(images == still).flatten(1).all(1))
            flipped.append(mirrored)
    assert abs(torch.cat(flipped).float().mean() - 0.5) < 0.08
