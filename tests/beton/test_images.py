"""Decoding gives Pillow's pixels, or correct ones where Pillow is wrong."""

import io
import warnings

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastdc.beton.encode_images import encode_jpeg
from fastdc.beton.images import decode_image, decode_payload, read_image
from fastdc.beton.resize_images import fit_image, resize_image, resize_many, resize_short
from fastdc.common.errors import SourceError
from tests.beton.conftest import resampled, smooth


def pillow_rgb(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def picture(make_picture):
    return make_picture(37, 53, seed=1)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}, {"optimize": True}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_pixels_equal_pillow(picture, to_file, mode, options):
    data = to_file(Image.fromarray(picture).convert(mode), **options)
    decoded = read_image(data)
    assert decoded.conversions == ()
    np.testing.assert_array_equal(decoded.pixels, pillow_rgb(data))


@pytest.mark.parametrize(
    ("mode", "kind", "conversions"),
    [
        ("CMYK", "JPEG", ("cmyk",)),
        ("RGB", "PNG", ("png",)),
        ("P", "PNG", ("png", "palette")),
        ("1", "PNG", ("png", "one_bit")),
        ("L", "PNG", ("png",)),
        ("LA", "PNG", ("png", "alpha")),
        ("RGBA", "PNG", ("png", "alpha")),
        ("P", "GIF", ("gif", "palette")),
        ("RGB", "BMP", ("bmp",)),
        ("RGB", "WEBP", ("webp",)),
        ("RGB", "TIFF", ("tiff",)),
        ("RGB", "PPM", ("ppm",)),
    ],
)
def test_other_kinds_equal_pillow_and_are_named(picture, to_file, mode, kind, conversions):
    data = to_file(Image.fromarray(picture).convert(mode), kind)
    decoded = read_image(data)
    assert decoded.conversions == conversions
    np.testing.assert_array_equal(decoded.pixels, pillow_rgb(data))


def test_sixteen_bit_grey_is_scaled_not_clipped(to_file):
    values = np.linspace(0, 65_535, 40 * 50).reshape(40, 50).astype(np.uint16)
    decoded = read_image(to_file(Image.fromarray(values), "PNG"))
    assert decoded.conversions == ("png", "gray16")
    np.testing.assert_array_equal(decoded.pixels, np.rint(values / 257).astype(np.uint8)[:, :, None].repeat(3, 2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(picture, to_file, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = to_file(picture, kind, exif=exif)
    decoded = read_image(data)
    assert ("exif_rotated" in decoded.conversions) == (orientation != 1)
    from PIL import ImageOps

    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decoded.pixels, expected)


def test_animated_gif_gives_its_first_frame(picture, to_file):
    frames = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    data = to_file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(data), pillow_rgb(data))


def test_palette_with_transparency_gives_no_warning(picture, to_file):
    data = to_file(Image.fromarray(picture).convert("P"), "PNG", transparency=bytes(range(200)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_image(data)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (8, 8), (17, 33)])
def test_extreme_shapes(make_picture, to_file, size):
    data = to_file(make_picture(*size, seed=3))
    np.testing.assert_array_equal(decode_image(data), pillow_rgb(data))


def test_jpeg_with_stray_bytes_before_a_marker_is_read_as_pillow_reads_it(picture, to_file):
    data = to_file(picture)
    data = data[:-2] + b"\0\0\0\0" + data[-2:]
    np.testing.assert_array_equal(decode_image(data), pillow_rgb(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "it is a PostScript"),
        (b"<html>not found</html>", "it is a web page"),
        (b"what is this?", "no known image format"),
        (b"\xff\xd8\xff\xe0", "cannot be decoded"),
    ],
)
def test_other_files_are_refused(data, words):
    with pytest.raises(SourceError, match=words):
        decode_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("keep", [0.99, 0.5, 0.1])
def test_truncated_file_is_refused(picture, to_file, kind, keep):
    data = to_file(picture, kind)
    with pytest.raises(SourceError):
        decode_image(data[: int(len(data) * keep)])


def test_decompression_bomb_is_refused(to_file):
    tiny = to_file(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(SourceError, match=r"pixels|bomb"):
        decode_image(tiny)


def test_bomb_in_a_jpeg_header_is_refused_before_it_is_decoded(picture, to_file):
    data = bytearray(to_file(picture))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"  # 65500 x 65500
    with pytest.raises(SourceError, match="at most"):
        decode_image(bytes(data))


def test_float_pixels_are_refused(to_file):
    with pytest.raises(SourceError, match="floating-point"):
        decode_image(to_file(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


def test_the_scale_of_32_bit_integers_is_not_guessed(to_file):
    """Such a file has no scale: 16-bit values are scaled, 1..255 is ambiguous."""
    values = np.linspace(0, 65_535, 40 * 50).reshape(40, 50).astype(np.int32)
    decoded = read_image(to_file(Image.fromarray(values), "TIFF"))
    assert decoded.conversions == ("tiff", "gray16")
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], np.rint(values / 257))
    with pytest.raises(SourceError, match=r"32-bit grey values 0\.\.255.*convert the image to 8 or 16 bits"):
        decode_image(to_file(Image.fromarray(values // 257), "TIFF"))
    with pytest.raises(SourceError, match=r"grey values 0\.\.131070, expected 0\.\.65535"):
        decode_image(to_file(Image.fromarray(values * 2), "TIFF"))
    assert decode_image(to_file(Image.fromarray(values * 0), "TIFF")).max() == 0


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_that_becomes_black_is_counted(to_file, kind):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    assert read_image(to_file(Image.fromarray(values), kind)).conversions[-2:] == ("gray16", "gray16_dark")
    assert read_image(to_file(Image.fromarray(values + 1), kind)).conversions[-1] == "gray16"
    assert read_image(to_file(Image.fromarray(values * 0), kind)).conversions[-1] == "gray16"


def test_441_is_read_through_pillow(jpeg_441):
    """simplejpeg has no name for it and raises KeyError: 6."""
    for pixels in (decode_image(jpeg_441), decode_payload(jpeg_441)):
        np.testing.assert_array_equal(pixels, pillow_rgb(jpeg_441))
    assert read_image(jpeg_441).conversions == ()


@pytest.mark.parametrize("sampling", [16 * across + down for across in range(6) for down in range(6)])
def test_any_sampling_of_a_jpeg_gives_pillows_pixels_or_an_error(make_picture, sampling):
    data = resampled(make_picture(32, 64, seed=7), sampling)
    for decode in (decode_image, decode_payload):
        try:
            pixels = decode(data)
        except SourceError as error:
            if not str(error).startswith("damaged JPEG"):  # where Pillow shows grey blocks
                with pytest.raises(OSError, match=r".*"):
                    pillow_rgb(data)
        else:
            np.testing.assert_array_equal(pixels, pillow_rgb(data))


@settings(max_examples=300, deadline=None)
@given(
    sampling=st.sampled_from(["444", "422", "420", "440", "411"]),
    luma=st.sampled_from([16 * across + down for across in range(5) for down in range(5)]),
    changes=st.lists(st.tuples(st.integers(2, 700), st.integers(0, 255)), max_size=4),
    length=st.integers(1, 2000),
)
def test_any_error_of_a_jpeg_decoder_is_a_bad_image(sampling, luma, changes, length):
    """Any sampling, damaged or truncated headers and data give pixels or SourceError, nothing else."""
    data = bytearray(simplejpeg.encode_jpeg(smooth(32, 48, seed=1), 80, "RGB", sampling))
    data[data.index(b"\xff\xc0") + 11] = luma
    for place, value in changes:
        data[min(place, len(data) - 1)] = value
    for decode in (decode_image, decode_payload):
        for file in (bytes(data), bytes(data[:length]), memoryview(data)):
            try:
                pixels = decode(file)
            except SourceError:
                continue
            assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_raise_source_error_or_give_an_image(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]))
    buffer = io.BytesIO()
    Image.fromarray(np.arange(32 * 24 * 3, dtype=np.uint8).reshape(32, 24, 3)).save(buffer, kind)
    file = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_image(bytes(file))
    except SourceError:
        return
    assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_both_resizers_give_the_same_pixels_and_pillows_within_one_level(old, new):
    rgb = np.random.default_rng(old[0] * 100 + new[1]).integers(0, 256, (*old, 3), dtype=np.uint8)
    resized = resize_image(rgb, *new)
    np.testing.assert_array_equal(resized, resize_many(rgb, *new))
    pillow = np.asarray(Image.fromarray(rgb).resize((new[1], new[0]), Image.Resampling.BILINEAR))
    assert np.abs(resized.astype(int) - pillow.astype(int)).max() <= 1


@pytest.mark.parametrize(("size", "expected"), [(20, (20, 28)), (37, (37, 53)), (100, (37, 53))])
def test_resize_short_shrinks_and_never_enlarges(picture, size, expected):
    assert resize_short(picture, size).shape == (*expected, 3)
    assert resize_short(picture.transpose(1, 0, 2), size).shape == (*expected[::-1], 3)


@pytest.mark.parametrize("shape", [(37, 53), (53, 37), (10, 200), (200, 10), (64, 64)])
@pytest.mark.parametrize("size", [16, 64, 90])
def test_fit_image_gives_squares(make_picture, shape, size):
    rgb = make_picture(*shape, seed=5)
    for fit in ("crop", "squash", "pad"):
        assert fit_image(rgb, size, fit).shape == (size, size, 3)


def test_fit_crop_is_torchvisions_resize_and_centre_crop(make_picture):
    rgb = make_picture(90, 61, seed=2)
    resized = resize_image(rgb, int(48 * 90 / 61), 48)
    top = round((resized.shape[0] - 48) / 2)
    np.testing.assert_array_equal(fit_image(rgb, 48, "crop"), resized[top : top + 48])


def test_fit_pad_keeps_the_whole_image_and_adds_black(make_picture):
    rgb = make_picture(40, 80, seed=2) | 1
    padded = fit_image(rgb, 80, "pad")
    np.testing.assert_array_equal(padded[20:60], rgb)
    assert padded[:20].max() == 0
    assert padded[60:].max() == 0


def test_fit_refuses_other_names(picture):
    with pytest.raises(ValueError, match="crop, squash or pad"):
        fit_image(picture, 8, "stretch")


@pytest.mark.parametrize("subsampling", ["420", "444"])
def test_encoded_jpeg_is_near_the_original(picture, subsampling):
    decoded = decode_image(encode_jpeg(picture, 95, subsampling))
    assert np.abs(decoded.astype(int) - picture).mean() < 4


def test_encode_jpeg_refuses_other_arrays(picture):
    with pytest.raises(ValueError, match="expected uint8"):
        encode_jpeg(picture.astype(np.float32))


def test_a_file_of_several_pictures_in_one_jpeg_gives_the_first(picture, to_file):
    data = to_file(picture, "MPO", save_all=True, append_images=[Image.fromarray(255 - picture)])
    decoded = read_image(data)
    assert decoded.conversions == ()
    np.testing.assert_array_equal(decoded.pixels, pillow_rgb(data))


def test_damaged_jpeg_data_after_a_sound_header_is_refused(picture, to_file):
    data = bytearray(to_file(picture, restart_marker_blocks=1))
    start = data.index(b"\xff\xda") + 14
    del data[start:-2]
    with pytest.raises(SourceError, match="damaged JPEG"):
        decode_image(bytes(data))
