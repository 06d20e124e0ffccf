"""Decoded images are shared by the loaders of a process."""

from pathlib import Path

import numpy as np
import pytest

from fastdc.beton import BetonFile
from fastdc.loader import EvalView, TrainView, open_loader
from fastdc.loader.memory import CACHE
from fastdc.loader.resident import ResidentEvalLoader, ResidentTrainLoader, resident_bytes
from tests.loader.conftest import Shelf, jpeg, picture, write


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    CACHE.clear()


def train(path: Path, size: int, seed: int = 0) -> ResidentTrainLoader:
    loader = open_loader(path, TrainView(size), batch_size=4, seed=seed, engine="resident")
    assert isinstance(loader, ResidentTrainLoader)
    return loader


def evaluation(path: Path, size: int) -> ResidentEvalLoader:
    loader = open_loader(path, EvalView(size), batch_size=4, engine="resident")
    assert isinstance(loader, ResidentEvalLoader)
    return loader


def test_training_loaders_share_one_decode(shelf: Shelf) -> None:
    assert train(shelf.jpeg, 8)._images.pixels is train(shelf.jpeg, 16, seed=5)._images.pixels


def test_validation_loaders_share_their_views(shelf: Shelf) -> None:
    assert evaluation(shelf.jpeg, 8)._finished is evaluation(shelf.jpeg, 8)._finished
    assert evaluation(shelf.jpeg, 9)._finished is not evaluation(shelf.jpeg, 8)._finished


def test_files_do_not_share(shelf: Shelf) -> None:
    assert train(shelf.jpeg, 8)._images.pixels is not train(shelf.raw, 8)._images.pixels


def test_a_rewritten_file_is_decoded_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.beton", [jpeg(picture(20, 20, 0))])
    first = train(path, 8)._images.pixels
    write(path, [jpeg(picture(20, 20, 1))])
    assert not np.array_equal(train(path, 8)._images.pixels, first)


def test_pixels_are_the_decoded_images(shelf: Shelf) -> None:
    images = train(shelf.mixed, 8)._images
    with BetonFile(shelf.mixed) as file:
        for sample in range(file.num_samples):
            decoded = file.decode(sample)
            start = images.offsets[sample]
            assert np.array_equal(images.pixels[start : start + decoded.size], decoded.reshape(-1))
        assert images.pixels.size == resident_bytes(file, TrainView(8))


def test_any_number_of_decoding_threads_gives_the_same_pixels(shelf: Shelf) -> None:
    buffers = []
    for workers in (1, 2, 100):
        CACHE.clear()
        loader = open_loader(shelf.mixed, TrainView(8), batch_size=4, engine="resident", workers=workers)
        assert isinstance(loader, ResidentTrainLoader)
        buffers.append(loader._images.pixels)
    assert np.array_equal(buffers[0], buffers[1])
    assert np.array_equal(buffers[0], buffers[2])
