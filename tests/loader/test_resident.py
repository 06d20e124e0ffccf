"""Decoded images are shared by the loaders of a process."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fastdc.loader import EvalView, TrainView, open_loader
from fastdc.loader.descriptor import StoredFile
from fastdc.loader.engines.decoded import DecodedImages, resident_bytes
from fastdc.loader.engines.resident import ResidentStream
from fastdc.loader.image_cache import CACHE
from tests.loader.conftest import Shelf, jpeg, picture, write


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    CACHE.clear()


def train(path: Path, size: int, seed: int = 0, workers: int | None = None) -> DecodedImages:
    """Return the decoded images of a training loader of `path`."""
    stream = open_loader(path, TrainView(size), batch_size=4, seed=seed, engine="resident", workers=workers)._stream
    assert isinstance(stream, ResidentStream)
    assert stream.images is not None
    return stream.images


def evaluation(path: Path, size: int) -> NDArray[np.uint8]:
    """Return the finished views of a validation loader of `path`."""
    stream = open_loader(path, EvalView(size), batch_size=4, engine="resident")._stream
    assert isinstance(stream, ResidentStream)
    return stream.finished[EvalView(size)]


def test_training_loaders_share_one_decode(shelf: Shelf) -> None:
    assert train(shelf.jpeg, 8).pixels is train(shelf.jpeg, 16, seed=5).pixels


def test_validation_loaders_share_their_views(shelf: Shelf) -> None:
    assert evaluation(shelf.jpeg, 8) is evaluation(shelf.jpeg, 8)
    assert evaluation(shelf.jpeg, 9) is not evaluation(shelf.jpeg, 8)


def test_files_do_not_share(shelf: Shelf) -> None:
    assert train(shelf.jpeg, 8).pixels is not train(shelf.raw, 8).pixels


def test_a_rewritten_file_is_decoded_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.beton", [jpeg(picture(20, 20, 0))])
    first = train(path, 8).pixels
    write(path, [jpeg(picture(20, 20, 1))])
    assert not np.array_equal(train(path, 8).pixels, first)


def test_pixels_are_the_decoded_images(shelf: Shelf) -> None:
    images = train(shelf.mixed, 8)
    with StoredFile(shelf.mixed) as file:
        for sample in range(file.num_samples):
            decoded = file.decode(sample)
            start = images.offsets[sample]
            assert np.array_equal(images.pixels[start : start + decoded.size], decoded.reshape(-1))
        assert images.pixels.size == resident_bytes(file, TrainView(8))


def test_any_number_of_decoding_threads_gives_the_same_pixels(shelf: Shelf) -> None:
    buffers = []
    for workers in (1, 2, 100):
        CACHE.clear()
        buffers.append(train(shelf.mixed, 8, workers=workers).pixels)
    assert np.array_equal(buffers[0], buffers[1])
    assert np.array_equal(buffers[0], buffers[2])
