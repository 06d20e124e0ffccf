"""Images in memory: decoding any file to RGB, encoding JPEG, resizing. Pixels are those of Pillow."""

import io
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fastdc.beton.jpeg import read_jpeg_header
from fastdc.beton.kinds import HEAD_BYTES, find_kind
from fastdc.errors import SourceError

MAX_PIXELS = 178_956_970
"""Larger images are refused as decompression bombs; Pillow's own limit (0.5 GiB of RGB)."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM")
"""The kinds of file that are read. Pillow knows more, but some of them (EPS) start other programs."""

_DAMAGE = ("bad huffman", "bad arithmetic", "premature end", "instead of rst")
"""libjpeg's words for lost picture data. Pillow ignores them and shows grey or garbled blocks."""

Rgb = NDArray[np.uint8]
Resize = Callable[[Rgb, int, int], Rgb]
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
    """Pixels [H, W, 3] uint8, upright, and what had to be converted on the way ("png", "cmyk", "exif_rotated", ...)."""

    pixels: Rgb
    conversions: tuple[str, ...]


def decode_image(data: bytes | memoryview) -> Rgb:
    """Decode an image file of one of the kinds in `FORMATS` to upright RGB, uint8 [H, W, 3].

    Equal to Pillow's `convert("RGB")` (so transparency is dropped, and a GIF gives its first frame), except that
    16-bit grey is scaled to 8 bits instead of clipped, and that Exif orientation is applied.

    Raises:
        SourceError: the data is not an image, is truncated or visibly damaged, or has more than `MAX_PIXELS` pixels.
    """
    return read_image(data).pixels


def read_image(data: bytes | memoryview) -> DecodedImage:
    """`decode_image`, and what had to be converted.

    Raises:
        SourceError: as `decode_image`.
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
    """Decode a JPEG to RGB [H, W, 3] as stored, without turning it: what FFCV sees, at full accuracy.

    Never at a reduced scale, even when the image is to be shrunk: libjpeg's scaled decoding to at least twice the
    target side is 1.4 to 1.7 times as fast for photos of 1000 to 2000 px (no faster for 500 and 750), but moves 13 to
    19 % of the levels by more than one, up to 24; to three times the side, still up to 9. Ours are within one.

    Raises:
        SourceError: the data is not a JPEG that can be decoded in full.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        check_pixels(int(height), int(width))
        pixels: Rgb = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
    except (SourceError, MemoryError):
        raise
    except Exception as error:  # CMYK, 4:4:1 (a KeyError), stray bytes before a marker: Pillow has the last word
        if any(words in str(error).lower() for words in _DAMAGE):
            raise SourceError(f"damaged JPEG: {' '.join(str(error).split())}") from error
        return _decode_jpeg_with_pillow(data)
    return pixels


def _decode_jpeg_with_pillow(data: bytes | memoryview) -> Rgb:
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        check_pixels(image.height, image.width)
        return np.array(image.convert("RGB"))
    except (SourceError, MemoryError):
        raise
    except UnidentifiedImageError as error:  # its text holds an address
        raise SourceError("not a JPEG that can be decoded") from error
    except Exception as error:
        raise SourceError(f"not a JPEG that can be decoded: {_in_a_line(error)}") from error


def check_pixels(height: int, width: int) -> None:
    """Refuse images that would fill the memory.

    Raises:
        SourceError: more than `MAX_PIXELS` pixels.
    """
    if height * width > MAX_PIXELS:
        raise SourceError(f"image of {height} x {width} pixels, expected at most {MAX_PIXELS} pixels in all")


def _read_with_pillow(data: bytes | memoryview) -> DecodedImage:
    """Decode what is no ordinary JPEG. Pillow's plug-ins raise errors of any kind on damaged files: a wide net."""
    if len(data) == 0:
        raise SourceError("empty file, expected an image")
    try:
        return _convert_with_pillow(Image.open(io.BytesIO(data), formats=FORMATS))
    except (SourceError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise SourceError(f"cannot be decoded: {_explain_unknown(data)}") from error
    except Exception as error:
        raise SourceError(f"cannot be decoded: {_in_a_line(error)}") from error


def _convert_with_pillow(image: Image.Image) -> DecodedImage:
    check_pixels(image.height, image.width)
    image.load()
    kind, special, orientation = (image.format or "image").lower(), _special_mode(image.mode), _orientation(image)
    values = _grey16_values(image) if special == "gray16" else None
    pixels = _to_rgb(image) if values is None else _grey16_to_rgb(values)
    jpeg = kind in ("jpeg", "mpo")
    conversions = [special] if special else ["odd_jpeg"] if jpeg else []
    if not jpeg:
        conversions.insert(0, kind)
    if values is not None and 0 < values.max() <= 255:
        conversions.append("gray16_dark")  # black on any screen: most likely 8-bit levels in a file of 16 bits
    if orientation == 1:
        return DecodedImage(pixels, tuple(conversions))
    return DecodedImage(_turn(pixels, orientation), (*conversions, "exif_rotated"))


def _explain_unknown(data: bytes | memoryview) -> str:
    """Describe a file that no decoder knows, and what to do where that helps."""
    found = find_kind(bytes(data[:HEAD_BYTES]))
    if found is None:
        return "no known image format"
    advice = found.advice or "convert it to PNG or JPEG"
    return f"it is {found.name}, expected JPEG, PNG, GIF, BMP, WebP, TIFF or PPM; {advice}"


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _special_mode(mode: str) -> str | None:
    """Name of the conversion that Pillow's pixel mode needs; None for plain grey or RGB."""
    if mode.startswith("I"):
        return "gray16"
    if mode == "F":
        raise SourceError("floating-point pixels have no agreed range; convert the image to 8 or 16 bits first")
    names = {"CMYK": "cmyk", "P": "palette", "PA": "palette", "1": "one_bit", "LA": "alpha", "RGBA": "alpha"}
    return names.get(mode, None if mode in ("L", "RGB") else f"mode_{mode.lower()}")


def _orientation(image: Image.Image) -> int:
    """Exif orientation 1..8; damaged Exif data counts as upright."""
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
    """Grey levels on the scale 0..65535 [H, W].

    A file of 32-bit integers has no scale of its own. Values of 16 bits are taken as such; but 1..255 may be the levels
    of 8 bits as well as a dark picture of 16, and either guess ruins the other.

    Raises:
        SourceError: the scale cannot be told.
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
    grey = ((values + 128) // 257).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _turn(pixels: Rgb, orientation: int) -> Rgb:
    return np.array(Image.fromarray(pixels).transpose(_TURNS[orientation]))


def encode_jpeg(rgb: Rgb, quality: int = 75, subsampling: Literal["420", "444"] = "420") -> bytes:
    """Encode RGB [H, W, 3] uint8 as baseline JPEG. Default subsampling 4:2:0, as FFCV's (OpenCV's) encoder.

    Raises:
        ValueError: not uint8 [H, W, 3], or `quality` outside 1..100.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not 1 <= quality <= 100:
        raise ValueError(f"{rgb.dtype} {rgb.shape} at quality {quality}: expected uint8 [H, W, 3], quality 1..100")
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality, "RGB", subsampling, fastdct=False)
    return encoded


def encode_jpeg_within(rgb: Rgb, max_bytes: int) -> tuple[bytes, int]:
    """Encode RGB [H, W, 3] uint8 at the highest quality of 1..95 whose JPEG has at most `max_bytes` bytes.

    The file is baseline 4:2:0 with Huffman tables of its own. At quality 75 they save about 320 bytes of a photo: a
    third of it at 28 px, a fifth at 64 px.

    Returns:
        The JPEG file and its quality; at quality 1 the file may be larger than asked for.
    """
    low, high = 1, 95
    best = encode_jpeg_optimised(rgb, low)
    while low < high:
        middle = (low + high + 1) // 2
        file = encode_jpeg_optimised(rgb, middle)
        if len(file) <= max_bytes:
            low, best = middle, file
        else:
            high = middle - 1
    return best, low


def encode_jpeg_optimised(rgb: Rgb, quality: int) -> bytes:
    """Encode RGB [H, W, 3] uint8 as baseline JPEG, 4:2:0, with Huffman tables of its own."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="JPEG", quality=quality, subsampling="4:2:0", optimize=True)
    return buffer.getvalue()


def png_bytes(rgb: Rgb) -> int:
    """Return the bytes of RGB [H, W, 3] uint8 as a PNG with Pillow's default compression; grey pixels as grey PNG."""
    grey = rgb[:, :, 0]
    buffer = io.BytesIO()
    shown = grey if all(np.array_equal(grey, rgb[:, :, channel]) for channel in (1, 2)) else rgb
    Image.fromarray(np.ascontiguousarray(shown)).save(buffer, format="PNG")
    return buffer.tell()


def resize_short(rgb: Rgb, size: int, resize: Resize | None = None) -> Rgb:
    """Shrink RGB [H, W, 3] so that the shorter side is `size` pixels; smaller images come back as they are.

    The longer side is int(size * long / short), torchvision's rule; antialiased bilinear, Pillow's pixels.

    Args:
        rgb: uint8 [H, W, 3].
        size: pixels.
        resize: `resize_image` (the default) or `resize_many`, which give the same pixels.
    """
    height, width = rgb.shape[:2]
    short = min(height, width)
    if short <= size:
        return rgb
    new_height, new_width = (size if side == short else int(size * side / short) for side in (height, width))
    return (resize or resize_image)(rgb, new_height, new_width)


def resize_image(rgb: Rgb, height: int, width: int) -> Rgb:
    """Resize RGB to [height, width, 3] with Pillow's antialiased bilinear filter, up or down.

    Rows first, then columns: Pillow 13 picks the cheaper order by itself, which moves a pixel in five by one level, and
    our files should not depend on the version of Pillow.
    """
    if rgb.shape[:2] == (height, width):
        return rgb
    image = Image.fromarray(np.ascontiguousarray(rgb))
    rows = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.array(rows.resize((width, height), Image.Resampling.BILINEAR))


def resize_many(rgb: Rgb, height: int, width: int) -> Rgb:
    """`resize_image` for thousands of images: the same pixels, about 4 times as fast.

    The first call loads numba, and once per machine compiles; that does not pay for a few images.
    """
    from fastdc.kernels.resize import resize_crop

    out = np.empty((height, width, 3), np.uint8)
    resize_crop(np.ascontiguousarray(rgb), (0, 0, rgb.shape[0], rgb.shape[1]), False, out)
    return out


def fit_image(rgb: Rgb, size: int, fit: Literal["crop", "squash", "pad"]) -> Rgb:
    """Bring RGB [H, W, 3] to [size, size, 3], antialiased bilinear, enlarging where needed.

    Args:
        rgb: uint8 [H, W, 3].
        size: side in pixels.
        fit: "crop": shorter side to `size`, centre crop; "squash": both sides to `size`, aspect ratio lost;
            "pad": longer side to `size`, black bars on both sides of the shorter.

    Raises:
        ValueError: unknown `fit`.
    """
    height, width = rgb.shape[:2]
    if fit == "squash":
        return resize_image(rgb, size, size)
    if fit not in ("crop", "pad"):
        raise ValueError(f"fit={fit!r}: expected crop, squash or pad")
    reference = min(height, width) if fit == "crop" else max(height, width)
    new_height, new_width = (
        size if side == reference else max(1, int(size * side / reference)) for side in (height, width)
    )
    resized = resize_image(rgb, new_height, new_width)
    top, left = round((new_height - size) / 2.0), round((new_width - size) / 2.0)
    if fit == "crop":
        return np.ascontiguousarray(resized[top : top + size, left : left + size])
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[-top : new_height - top, -left : new_width - left] = resized
    return canvas
