"""Convert one image file to the payload that a beton stores."""

from dataclasses import dataclass
from typing import get_args

from fastdc.beton.encode_images import encode_jpeg
from fastdc.beton.format import MAX_SIDE
from fastdc.beton.images import Rgb, check_pixels, read_image
from fastdc.beton.jpeg_header import read_jpeg_header
from fastdc.beton.pages import Payload, jpeg_payload
from fastdc.beton.resize_images import Resize, resize_image, resize_short
from fastdc.beton.sources.reading_ahead import HashedFile, ReadAhead
from fastdc.beton.writer import make_payload
from fastdc.common.choices import Encoding
from fastdc.common.errors import ConfigError, SourceError

MAX_LOSSLESS_BYTES = 4 << 20
"""Largest size at which `keep` stores raw pixels if it cannot copy the file; above, JPEG of quality 95, 4:4:4."""
DEFAULT_QUALITY = 90


@dataclass(frozen=True)
class Recipe:
    """How images are stored.

    Attributes:
        encoding: "keep", "jpg" or "raw".
        quality: JPEG quality of "jpg", 1..100.
        resolution: shorter side in pixels, or None.
        resize: function that shrinks an image; every choice gives the same pixels.
        read: reader of many files at a time, or None; every choice gives the same bytes.
    """

    encoding: Encoding
    quality: int
    resolution: int | None
    resize: Resize = resize_image
    read: ReadAhead | None = None


def make_recipe(encoding: Encoding | None, quality: int | None, resolution: int | None) -> Recipe:
    """Return the recipe of the given settings; None takes the default.

    Raises:
        ConfigError: settings are out of range, or a resolution is given with "keep".
    """
    if encoding is not None and encoding not in get_args(Encoding):
        raise ConfigError(f"encoding {encoding!r}, expected keep, jpg or raw")
    if encoding == "keep" and resolution is not None:
        raise ConfigError("encoding keep copies images untouched, but a resolution was given; use jpg or raw")
    if resolution is not None and not 1 <= resolution <= MAX_SIDE:
        raise ConfigError(f"resolution {resolution}, expected 1..{MAX_SIDE} pixels")
    if quality is not None and not 1 <= quality <= 100:
        raise ConfigError(f"quality {quality}, expected 1..100")
    chosen: Encoding = encoding or ("keep" if resolution is None else "jpg")
    return Recipe(chosen, DEFAULT_QUALITY if quality is None else quality, resolution)


def convert_image(data: bytes | Rgb | HashedFile, recipe: Recipe) -> tuple[Payload, tuple[str, ...]]:
    """Convert an image file to the payload to store, and name the conversions it needed.

    Args:
        data: the file, or pixels uint8 [H, W, 3], which "keep" always stores losslessly.
        recipe: how images are stored.

    Raises:
        SourceError: the file is not an image, is truncated, or is too large.
    """
    data, sha256 = data if isinstance(data, HashedFile) else (data, None)
    if not isinstance(data, bytes):
        return _store_pixels(data, recipe, lossless=recipe.encoding == "keep"), ()
    if recipe.encoding == "keep":
        header = read_jpeg_header(data)
        if header is not None and header.common and header.complete and header.orientation == 1:
            check_pixels(header.height, header.width)
            return jpeg_payload(data, header.height, header.width, sha256), ()
    pixels, conversions = read_image(data)
    lossless = recipe.encoding == "keep" and pixels.nbytes <= MAX_LOSSLESS_BYTES
    payload = _store_pixels(pixels, recipe, lossless)
    lossy = recipe.encoding == "keep" and not lossless
    return payload, (*conversions, "lossy") if lossy else conversions


def _store_pixels(pixels: Rgb, recipe: Recipe, lossless: bool) -> Payload:
    """Return the payload of decoded pixels; with `lossless`, the encoding "keep" stores them raw."""
    if recipe.resolution is not None:
        pixels = resize_short(pixels, recipe.resolution, recipe.resize)
    if recipe.encoding == "raw" or lossless:
        return make_payload(pixels)
    if max(pixels.shape) > 65_500:  # libjpeg's JPEG_MAX_DIMENSION
        raise SourceError(f"image of {pixels.shape[0]} x {pixels.shape[1]} pixels, JPEG holds at most 65500 a side")
    kept = recipe.encoding == "keep"
    encoded = encode_jpeg(pixels, 95, "444") if kept else encode_jpeg(pixels, recipe.quality, "420")
    return jpeg_payload(encoded, *pixels.shape[:2])
