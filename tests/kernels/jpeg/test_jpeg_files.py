"""Files read by compiled code: what it takes for a plain JPEG is what `read_jpeg_header` takes for one."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastdc.beton.jpeg_header import read_jpeg_header
from fastdc.kernels.jpeg.jpeg_files import plain_jpeg_size


def encode(mode: str = "RGB", size: tuple[int, int] = (23, 17), **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif(orientation: int, order: str) -> Image.Exif:
    made = Image.Exif()
    made.endian = order
    made[0x010F] = "maker"
    made[0x0112] = orientation
    return made


def expected(data: bytes) -> tuple[int, int]:
    header = read_jpeg_header(data)
    if header is None or not header.common or not header.complete or header.orientation != 1:
        return 0, 0
    return header.height, header.width


def found(data: bytes) -> tuple[int, int]:
    return plain_jpeg_size(np.frombuffer(data, np.uint8))


TURNED = [encode(exif=exif(orientation, order)) for orientation in range(1, 9) for order in "<>"]
ODD_EXIF = [
    encode(exif=content)
    for content in (
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0garbage!",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0",  # cut off behind the value
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06",  # cut off within it
    )
]
PLAIN = [
    encode(),
    encode("L"),
    encode("CMYK"),
    encode(progressive=True),
    encode(subsampling=0, quality=95),
    encode(size=(300, 401)),
    encode() + b"junk" * 50,
    encode(comment=b"x" * 300, icc_profile=b"p" * 1000, dpi=(72, 72)),
]
SAMPLES = [*PLAIN, *TURNED, *ODD_EXIF]


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_files_as_encoders_write_them(number: int) -> None:
    assert found(SAMPLES[number]) == expected(SAMPLES[number])


def test_some_are_plain_and_some_are_not() -> None:
    sizes = [found(data) for data in SAMPLES]
    assert sizes.count((0, 0)) == 1 + 14 + 1  # CMYK, 7 orientations in 2 byte orders, the tag whose value is whole
    assert sizes[0] == (23, 17)


@pytest.mark.parametrize("number", [0, 3, 10, len(PLAIN) + 2])
def test_cut_off_anywhere(number: int) -> None:
    data = SAMPLES[number]
    for length in range(len(data)):
        assert found(data[:length]) == expected(data[:length])


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=6))
def test_bytes_changed_anywhere(data: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    assert found(bytes(changed)) == expected(bytes(changed))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from([b"\xff", b"\xd8", b"\xc0", b"\xda", b"\xe1", b"\xd9", b"\0\x08", b"\0", b"\x01", b"Exif\0\0"])
    )
)
def test_anything_that_begins_like_a_jpeg(parts: list[bytes]) -> None:
    data = b"\xff\xd8" + b"".join(parts)
    assert found(data) == expected(data)
