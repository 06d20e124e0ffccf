"""JPEG markers, read without decoding."""

import pytest
from PIL import Image

from fastdc.beton.jpeg_header import read_jpeg_header


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 20}, {"subsampling": 0}, {"dpi": (72, 72)}])
def test_size_and_kind(make_picture, to_file, options):
    header = read_jpeg_header(to_file(make_picture(31, 47, seed=0), **options))
    assert header is not None
    assert (header.height, header.width, header.components) == (31, 47, 3)
    assert header.common
    assert header.complete
    assert header.orientation == 1


@pytest.mark.parametrize(("mode", "components", "common"), [("L", 1, True), ("RGB", 3, True), ("CMYK", 4, False)])
def test_components(make_picture, to_file, mode, components, common):
    header = read_jpeg_header(to_file(Image.fromarray(make_picture(16, 16, seed=0)).convert(mode)))
    assert (header.components, header.common) == (components, common)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_both_byte_orders(make_picture, to_file, orientation):
    for order in ("<", ">"):
        exif = Image.Exif()
        exif.endian = order
        exif[0x010F] = "maker"
        exif[0x0112] = orientation
        assert read_jpeg_header(to_file(make_picture(8, 8, seed=0), exif=exif)).orientation == orientation


def test_damaged_exif_counts_as_upright(make_picture, to_file):
    for exif in (
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0garbage!",
    ):
        assert read_jpeg_header(to_file(make_picture(8, 8, seed=0), exif=exif)).orientation == 1


def test_truncation_is_detected_and_trailing_junk_allowed(make_picture, to_file):
    data = to_file(make_picture(40, 40, seed=0), progressive=True)
    for length in range(len(data)):
        header = read_jpeg_header(data[:length])
        assert header is None or not header.complete
    assert read_jpeg_header(data + b"junk" * 100).complete


def test_a_thumbnails_end_marker_does_not_hide_truncation(make_picture, to_file):
    thumbnail = to_file(make_picture(8, 8, seed=1))
    data = to_file(make_picture(40, 40, seed=0), exif=b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0" + thumbnail)
    assert read_jpeg_header(data).complete
    assert not read_jpeg_header(data[:-2]).complete


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n" * 4, b"\xff\xd8" + b"\xff" * 50, b"\xff\xd8\xff\xd9"]
)
def test_other_bytes_give_none(data):
    assert read_jpeg_header(data) is None
