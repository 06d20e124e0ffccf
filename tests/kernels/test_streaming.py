"""Batches from stored bytes: sound samples become views, others are marked and nothing of another image shows."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastdc.kernels.batches import make_view
from fastdc.kernels.streaming import FAILED, MADE, decode_views
from fastdc.loader.ffcv_pipeline import turbojpeg_addresses
from fastdc.loader.views import TrainView, view_numbers

LIBRARY = turbojpeg_addresses()
VIEW = view_numbers(TrainView(10))
METADATA = np.zeros(1, [("f0", "u1")])


def picture(sample: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sample).integers(0, 256, (20 + sample, 30, 3), dtype=np.uint8)


def encode(sample: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(sample)).save(out, "JPEG")
    return out.getvalue()


def views(payloads: list[bytes], modes: list[int], samples: list[int], threads: int) -> tuple[NDArray, NDArray]:
    """(views, states) of `samples` from a file that holds `payloads` one after the other."""
    data = np.frombuffer(b"".join(payloads), np.uint8)
    sizes = np.array([len(payload) for payload in payloads])
    heights = np.array([20 + sample for sample in range(len(payloads))])
    states = np.zeros(len(payloads), np.uint8)
    numbers = np.array([1, 2, 10, threads])
    storage = (data, np.cumsum(sizes) - sizes, sizes, np.array(modes, np.uint8), heights, np.full(len(payloads), 30))
    made = decode_views(np.array(samples), None, METADATA, (*storage, VIEW, numbers, LIBRARY, states))
    return made, states


def expected(image: NDArray[np.uint8], sample: int) -> NDArray[np.uint8]:
    out = np.zeros((10, 10, 3), np.uint8)
    make_view(image, VIEW, 1, 2, sample, out)
    return out


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_raw_and_jpeg_samples_become_their_views(threads: int) -> None:
    payloads = [picture(0).tobytes(), encode(1), picture(2).tobytes(), encode(3)]
    made, states = views(payloads, [1, 0, 1, 0], [3, 2, 0], threads)
    assert states.tolist() == [MADE, 0, MADE, MADE]
    decoded = np.array(Image.open(io.BytesIO(payloads[3])).convert("RGB"))
    for view, image, sample in zip(made, (decoded, picture(2), picture(0)), (3, 2, 0), strict=True):
        assert np.array_equal(view, expected(image, sample))


@pytest.mark.parametrize("threads", [1, 2])
def test_unsound_samples_are_marked_and_the_others_made(threads: int) -> None:
    payloads = [encode(0), encode(1)[:300], picture(2).tobytes()[:-1], encode(3), bytes(100)]
    made, states = views(payloads, [0, 0, 1, 0, 0], [0, 1, 2, 3, 4], threads)
    assert states.tolist() == [MADE, FAILED, FAILED, MADE, FAILED]
    decoded = np.array(Image.open(io.BytesIO(payloads[3])).convert("RGB"))
    assert np.array_equal(made[3], expected(decoded, 3))
