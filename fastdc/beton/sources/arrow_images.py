"""Copy single images out of Arrow arrays: the bytes of files, or pixels as nested lists."""

from typing import Any

import numpy as np

from fastdc.beton.sources.trees import check_size
from fastdc.common.errors import SourceError

CHANNELS = (1, 3)


def take_file(images: Any, row: int) -> bytes:
    """Copy one image out of an Arrow array of files, so that the array can be freed.

    Raises:
        SourceError: the row holds none, or one above 1 GiB.
    """
    image = images[row]
    if not image.is_valid:
        raise SourceError("no image bytes (null); the set has to be stored with its images embedded")
    buffer = image.as_buffer()
    check_size(buffer.size)
    data: bytes = buffer.to_pybytes()
    return data


def take_pixels(images: Any, row: int) -> bytes:
    """Copy pixels out of an Arrow array of nested lists, as a file of format PPM or, if grey, PGM.

    Pixels are whole numbers 0..255, [H, W], [H, W, C] or [C, H, W] with C = 1 or 3.

    Raises:
        SourceError: the row holds none, rows differ in length, or the pixels have another shape or range.
    """
    image = images[row]
    if not image.is_valid:
        raise SourceError("no pixels (null)")
    sides, values = [], image.values
    check_size(values.nbytes)
    sides.append(len(values))
    while hasattr(values.type, "value_type"):
        lengths = set(values.value_lengths().to_pylist()) if len(values) else set()
        if len(lengths) != 1 or None in lengths:
            raise SourceError("its rows of pixels differ in length, or there are none; expected [H, W] or [H, W, C]")
        sides.append(lengths.pop())
        values = values.flatten()
    if values.null_count:
        raise SourceError("some of its pixels are null, expected whole numbers 0..255")
    return _file_of(values.to_numpy(zero_copy_only=False).reshape(sides))


def _file_of(pixels: Any) -> bytes:
    shape = list(pixels.shape)
    if pixels.ndim == 3 and shape[0] in CHANNELS and shape[2] not in CHANNELS:
        pixels = pixels.transpose(1, 2, 0)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in CHANNELS or not pixels.size:
        raise SourceError(f"pixels of shape {shape}, expected [H, W], [H, W, C] or [C, H, W] with C = 1 or 3")
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 255:
        raise SourceError(f"pixels from {low} to {high}, expected whole numbers 0..255")
    header = f"P{6 if channels == 3 else 5} {pixels.shape[1]} {pixels.shape[0]} 255\n"
    return header.encode() + np.ascontiguousarray(pixels, np.uint8).tobytes()
