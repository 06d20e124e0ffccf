"""Decode image files in memory to pixels equal to Pillow's."""

import io
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fastdc.beton.image_kinds import HEAD_BYTES, find_kind
from fastdc.beton.jpeg_header import read_jpeg_header
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line

MAX_PIXELS = 178_956_970
"""Largest number of pixels accepted. It is Pillow's own limit against decompression bombs (0.5 GiB of RGB)."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM")
"""Pillow formats that are read. Pillow knows more, but some of them (EPS) start other programs."""

_DAMAGE = ("bad huffman", "bad arithmetic", "premature end", "instead of rst")
"""Parts of libjpeg's messages about lost picture data. Pillow ignores these and returns grey or garbled blocks."""

Rgb = NDArray[np.uint8]
"""RGB pixels [H, W, 3]."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DecodedImage(NamedTuple):
    """Upright pixels, uint8 [H, W, 3], and the conversions they needed ("png", "cmyk", "exif_rotated", ...)."""

    pixels: Rgb
    conversions: tuple[str, ...]


def decode_image(data: bytes | memoryview) -> Rgb:
    """Decode an image file of one of the kinds in `FORMATS` to upright RGB, uint8 [H, W, 3].

    The result equals Pillow's `convert("RGB")`: transparency is dropped, and a GIF gives its first frame. There are two
    differences: 16-bit grey is scaled to 8 bits instead of clipped, and Exif orientation is applied.

    Raises:
        SourceError: the data is not an image, is truncated or visibly damaged, or has more than `MAX_PIXELS` pixels.
    """
    return read_image(data).pixels


def read_image(data: bytes | memoryview) -> DecodedImage:
    """Decode an image file as `decode_image` does, and name the conversions it needed.

    Raises:
        SourceError: as for `decode_image`.
    """
    header = read_jpeg_header(data)
    if header is None or not header.common or not header.complete:
        return _read_with_pillow(data)
    check_pixels(header.height, header.width)
    pixels = decode_payload(data)
    if header.orientation == 1:
        return DecodedImage(pixels, ())
    return DecodedImage(_turn(pixels, header.orientation), ("exif_rotated",))


def decode_payload(data: bytes | memoryview) -> Rgb:
    """Decode a JPEG to RGB [H, W, 3] as stored, without rotating it: the pixels that FFCV sees, at full accuracy.

    The image is never decoded at a reduced scale, even if it is to be shrunk. libjpeg can scale while decoding. To at
    least twice the target side, that is 1.4 to 1.7 times as fast for photos of 1000 to 2000 px. It is no faster for 500
    and 750 px. But it changes 13 to 19 % of the levels by more than one, by up to 24; at three times the target side,
    still by up to 9. Full decoding stays within one level.

    Raises:
        SourceError: the data is not a JPEG that can be decoded in full.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        check_pixels(int(height), int(width))
        # The slow, accurate DCT and upsampling are those that Pillow uses.
        pixels: Rgb = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
    except (SourceError, MemoryError):
        raise
    except Exception as error:  # CMYK, 4:4:1 (a KeyError), stray bytes before a marker: let Pillow decide
        if any(words in str(error).lower() for words in _DAMAGE):
            raise SourceError(f"damaged JPEG: {one_line(error)}") from error
        return _decode_jpeg_with_pillow(data)
    return pixels


def _decode_jpeg_with_pillow(data: bytes | memoryview) -> Rgb:
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        check_pixels(image.height, image.width)
        return np.array(image.convert("RGB"))
    except (SourceError, MemoryError):
        raise
    except UnidentifiedImageError as error:  # its text contains a memory address, so leave it out
        raise SourceError("not a JPEG that can be decoded") from error
    except Exception as error:
        raise SourceError(f"not a JPEG that can be decoded: {one_line(error)}") from error


def check_pixels(height: int, width: int) -> None:
    """Refuse an image that would exhaust the memory.

    Raises:
        SourceError: the image has more than `MAX_PIXELS` pixels.
    """
    if height * width > MAX_PIXELS:
        raise SourceError(f"image of {height} x {width} pixels, expected at most {MAX_PIXELS} pixels in all")


def _read_with_pillow(data: bytes | memoryview) -> DecodedImage:
    """Decode anything but an ordinary JPEG.

    Every exception becomes a `SourceError`, because Pillow's plug-ins raise errors of any type on damaged files.
    """
    if len(data) == 0:
        raise SourceError("empty file, expected an image")
    try:
        return _convert_with_pillow(Image.open(io.BytesIO(data), formats=FORMATS))
    except (SourceError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise SourceError(f"cannot be decoded: {_explain_unknown(data)}") from error
    except Exception as error:
        raise SourceError(f"cannot be decoded: {one_line(error)}") from error


def _convert_with_pillow(image: Image.Image) -> DecodedImage:
    check_pixels(image.height, image.width)
    image.load()
    kind, special, orientation = (image.format or "image").lower(), _special_mode(image.mode), _orientation(image)
    values = _grey16_values(image) if special == "gray16" else None
    pixels = _to_rgb(image) if values is None else _grey16_to_rgb(values)
    jpeg = kind in ("jpeg", "mpo")  # an MPO is a JPEG with further pictures appended
    conversions = [special] if special else ["odd_jpeg"] if jpeg else []
    if not jpeg:
        conversions.insert(0, kind)
    if values is not None and 0 < values.max() <= 255:
        conversions.append("gray16_dark")  # looks black: most likely 8-bit levels in a 16-bit file
    if orientation == 1:
        return DecodedImage(pixels, tuple(conversions))
    return DecodedImage(_turn(pixels, orientation), (*conversions, "exif_rotated"))


def _explain_unknown(data: bytes | memoryview) -> str:
    """Describe a file that no decoder recognises, with advice if there is any."""
    found = find_kind(bytes(data[:HEAD_BYTES]))
    if found is None:
        return "no known image format"
    advice = found.advice or "convert it to PNG or JPEG"
    return f"it is {found.name}, expected JPEG, PNG, GIF, BMP, WebP, TIFF or PPM; {advice}"


def _special_mode(mode: str) -> str | None:
    """Return the name of the conversion that a Pillow mode needs; None for plain grey or RGB."""
    if mode.startswith("I"):
        return "gray16"
    if mode == "F":
        raise SourceError("floating-point pixels have no agreed range; convert the image to 8 or 16 bits first")
    names = {"CMYK": "cmyk", "P": "palette", "PA": "palette", "1": "one_bit", "LA": "alpha", "RGBA": "alpha"}
    return names.get(mode, None if mode in ("L", "RGB") else f"mode_{mode.lower()}")


def _orientation(image: Image.Image) -> int:
    """Return the Exif orientation, 1..8; damaged Exif data counts as upright."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return int(orientation) if orientation in _TURNS else 1


def _to_rgb(image: Image.Image) -> Rgb:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, without Pillow's warning
    return np.array(image.convert("RGB"))


def _grey16_values(image: Image.Image) -> NDArray[np.int64]:
    """Return grey levels [H, W] on the scale 0..65535.

    A file of 32-bit integers has no scale of its own. Values that fit 16 bits are taken as 16-bit levels. Values of
    1..255 are ambiguous: they may be 8-bit levels or a dark 16-bit picture, and a wrong guess ruins the image.

    Raises:
        SourceError: the scale cannot be inferred.
    """
    values = np.array(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65_535:
        raise SourceError(f"grey values {low}..{high}, expected 0..65535 (16 bits); convert the image to 8 or 16 bits")
    if image.mode == "I" and image.format == "TIFF" and 0 < high <= 255:
        wide = f"32-bit grey values {low}..{high}: no telling whether they count to 255 or to 65535"
        raise SourceError(f"{wide}; convert the image to 8 or 16 bits")
    return values


def _grey16_to_rgb(values: NDArray[np.int64]) -> Rgb:
    """Scale 0..65535 to 0..255 with rounding; Pillow's own conversion clips at 255 instead."""
    grey = ((values + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257
    return np.repeat(grey[:, :, None], 3, axis=2)


def _turn(pixels: Rgb, orientation: int) -> Rgb:
    return np.array(Image.fromarray(pixels).transpose(_TURNS[orientation]))
