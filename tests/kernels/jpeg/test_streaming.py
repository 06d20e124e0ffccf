"""Batches from stored bytes: sound samples become views, others are marked and show no other image."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastdc.kernels.jpeg.streaming import FAILED, MADE, decode_views
from fastdc.kernels.views.view_batches import make_views
from fastdc.loader.descriptor import pread_address
from fastdc.loader.engines.ffcv_pipeline import turbojpeg_addresses
from fastdc.loader.view_settings import TrainView, view_numbers

LIBRARY = turbojpeg_addresses()
VIEW = view_numbers(TrainView(10))
METADATA = np.zeros(1, [("f0", "u1")])


def picture(sample: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sample).integers(0, 256, (20 + sample, 30, 3), dtype=np.uint8)


def encode(sample: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(sample)).save(out, "JPEG")
    return out.getvalue()


def views(
    path: Path, payloads: list[bytes], modes: list[int], samples: list[int], threads: int
) -> tuple[NDArray, NDArray, NDArray]:
    """Return (views, states, decodes) of `samples` in a file of consecutive `payloads`."""
    path.write_bytes(b"".join(payloads))
    sizes = np.array([len(payload) for payload in payloads])
    heights = np.array([20 + sample for sample in range(len(payloads))])
    states, decodes = np.zeros(len(samples), np.uint8), np.zeros(len(payloads), np.uint32)
    out = np.zeros(len(samples) * 300, np.uint8)
    with path.open("rb") as file:
        reader = np.array([pread_address(), file.fileno()])
        table = (np.cumsum(sizes) - sizes, sizes, np.array(modes, np.uint8), heights, np.full(len(payloads), 30))
        request = (VIEW[None], np.array([1]), np.array([10]), np.zeros((2, 0), np.float32))
        storage = (reader, LIBRARY, *table, *request, np.array([2, threads]), decodes, states, out)
        made = decode_views(np.array(samples), None, METADATA, storage)
    return made.reshape(-1, 10, 10, 3), states, decodes


def expected(image: NDArray[np.uint8], sample: int) -> NDArray[np.uint8]:
    out, levels = np.zeros((10, 10, 3), np.uint8), np.zeros((2, 0), np.float32)
    make_views(image, VIEW[None], np.array([1]), np.array([10]), levels, 2, sample, 0, 1, out.reshape(-1))
    return out


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_raw_and_jpeg_samples_become_their_views(tmp_path: Path, threads: int) -> None:
    payloads = [picture(0).tobytes(), encode(1), picture(2).tobytes(), encode(3)]
    made, states, decodes = views(tmp_path / "file", payloads, [1, 0, 1, 0], [3, 2, 0], threads)
    assert states.tolist() == [MADE, MADE, MADE]
    assert decodes.tolist() == [1, 0, 1, 1]
    decoded = np.array(Image.open(io.BytesIO(payloads[3])).convert("RGB"))
    for view, image, sample in zip(made, (decoded, picture(2), picture(0)), (3, 2, 0), strict=True):
        assert np.array_equal(view, expected(image, sample))


@pytest.mark.parametrize("threads", [1, 2])
def test_unsound_samples_are_marked_and_the_others_made(tmp_path: Path, threads: int) -> None:
    payloads = [encode(0), encode(1)[:300], picture(2).tobytes()[:-1], encode(3), bytes(100)]
    made, states, decodes = views(tmp_path / "file", payloads, [0, 0, 1, 0, 0], [0, 1, 2, 3, 4], threads)
    assert states.tolist() == [MADE, FAILED, FAILED, MADE, FAILED]
    assert decodes.tolist() == [1, 0, 0, 1, 0]
    decoded = np.array(Image.open(io.BytesIO(payloads[3])).convert("RGB"))
    assert np.array_equal(made[3], expected(decoded, 3))
