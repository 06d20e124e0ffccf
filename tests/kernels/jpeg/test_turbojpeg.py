"""JPEG decoding in compiled code: Pillow's pixels, or False for anything inexact."""

import io

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from fastdc.beton.images import decode_payload
from fastdc.common.errors import SourceError
from fastdc.kernels.jpeg.turbojpeg import close_decoder, decode_jpeg, open_decoder
from fastdc.loader.engines.ffcv_pipeline import turbojpeg_addresses

LIBRARY = turbojpeg_addresses()


def encode(mode: str = "RGB", **options: object) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "JPEG", **options)
    return np.frombuffer(out.getvalue(), np.uint8)


def decode(jpeg: NDArray[np.uint8], height: int = 37, width: int = 53) -> tuple[bool, NDArray[np.uint8]]:
    out = np.full((height, width, 3), 55, np.uint8)
    decoder = open_decoder(LIBRARY)
    sound = decode_jpeg(LIBRARY, decoder, jpeg, out)
    close_decoder(LIBRARY, decoder)
    return sound, out


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"subsampling": "4:4:4"}),
        ("RGB", {"subsampling": "4:2:2"}),
        ("RGB", {"subsampling": "4:2:0"}),
        ("L", {}),
    ],
)
def test_pixels_equal_pillows(mode: str, options: dict) -> None:
    jpeg = encode(mode, quality=80, **options)
    sound, pixels = decode(jpeg)
    assert sound
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(jpeg.tobytes())).convert("RGB")))


@pytest.mark.parametrize(("height", "width"), [(36, 53), (37, 54), (19, 27), (53, 37)])
def test_another_size_is_refused_without_output(height: int, width: int) -> None:
    sound, pixels = decode(encode(), height, width)
    assert not sound
    assert (pixels == 55).all()


@pytest.mark.parametrize("length", [0, 1, 100, 700, 1500])
def test_a_truncated_file_is_refused(length: int) -> None:
    assert len(encode()) > 1600
    assert not decode(encode()[:length].copy())[0]


def test_other_bytes_are_refused() -> None:
    assert not decode(np.arange(200, dtype=np.uint8))[0]


def test_a_missing_decoder_is_refused() -> None:
    assert not decode_jpeg(LIBRARY, 0, encode(), np.zeros((37, 53, 3), np.uint8))


def test_progressive_files_are_left_to_the_careful_decoder() -> None:
    sound, _ = decode(encode("RGB", quality=80, progressive=True))
    assert not sound


def sampled(sampling: int) -> bytes:
    """Return a JPEG of 32 x 64 pixels whose header states a sampling of the first component."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    jpeg = bytearray(simplejpeg.encode_jpeg(pixels, 80, "RGB", "411"))
    jpeg[jpeg.index(b"\xff\xc0") + 11] = sampling
    return bytes(jpeg)


def test_4_1_1_gives_pillows_pixels() -> None:
    jpeg = sampled(0x41)
    sound, found = decode(np.frombuffer(jpeg, np.uint8), 32, 64)
    assert sound
    assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")))


@pytest.mark.parametrize("sampling", [0x14, 0x31, 0x24, 0x44, 0x00])
def test_other_samplings_give_pillows_pixels_or_are_left_to_the_careful_decoder(sampling: int) -> None:
    """4:4:1 (0x14) is known from libjpeg-turbo 3 on. The careful decoder gives Pillow's pixels, or an error."""
    jpeg = sampled(sampling)
    sound, found = decode(np.frombuffer(jpeg, np.uint8), 32, 64)
    if not sound:
        try:
            found = decode_payload(jpeg)
        except SourceError:
            return
    assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")))
