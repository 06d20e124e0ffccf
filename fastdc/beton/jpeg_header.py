"""Read a JPEG's size, coding and orientation from its markers, without decoding it.

Source: ITU-T T.81 annex B (markers), T.872 / Adobe TN 5116 (APP14), Exif 2.32 (orientation).
"""

import struct
from typing import NamedTuple

_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # TEM and RST0..RST7 have no length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF markers; without DHT, JPG and DAC
_TURBOJPEG_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, Huffman coded


class JpegHeader(NamedTuple):
    """Facts from a JPEG's markers.

    Attributes:
        height, width: pixels as stored, before any rotation.
        components: 1 = grey, 3 = YCbCr or RGB, 4 = CMYK or YCCK.
        common: whether every libjpeg-turbo decodes its coding: 8 bits, baseline, extended or progressive Huffman, and 1
            or 3 components.
        orientation: Exif orientation, 1..8; 1 is upright.
        complete: whether an end-of-image marker follows the first scan.
    """

    height: int
    width: int
    components: int
    common: bool
    orientation: int
    complete: bool


def read_jpeg_header(data: bytes | memoryview) -> JpegHeader | None:
    """Parse a JPEG's markers up to its first scan; return None if `data` is not a JPEG with a frame and a scan.

    To find truncation, the function looks for an end-of-image marker after the first scan. The marker cannot occur
    inside entropy-coded data, where 00 follows every FF. Thumbnails, which have their own, lie before the first scan.
    Junk after the marker is harmless.
    """
    data = bytes(data)
    if data[:2] != b"\xff\xd8":
        return None
    position, last, frame, orientation = 2, len(data) - 4, None, 1
    while position <= last:
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF or marker in _STANDALONE:  # fill byte, or marker without a segment
            position += 1 if marker == 0xFF else 2
            continue
        if marker == 0xDA:
            return _finish(frame, orientation, data.rfind(b"\xff\xd9", position) >= 0)
        length = data[position + 2] << 8 | data[position + 3]
        if length < 2 or marker == 0xD9:
            return None
        if marker in _FRAMES and frame is None:
            frame = (marker, data[position + 4 : position + 2 + length])
        elif marker == 0xE1 and data[position + 4 : position + 2 + length][:6] == b"Exif\0\0":
            orientation = _exif_orientation(data[position + 10 : position + 2 + length])
        position += 2 + length
    return None


def _finish(frame: tuple[int, bytes] | None, orientation: int, complete: bool) -> JpegHeader | None:
    if frame is None or len(frame[1]) < 6:
        return None
    marker, segment = frame
    precision, height, width, components = struct.unpack_from(">BHHB", segment)
    common = marker in _TURBOJPEG_FRAMES and precision == 8 and height > 0 and width > 0 and components in (1, 3)
    return JpegHeader(height, width, components, common, orientation, complete)


def _exif_orientation(tiff: bytes) -> int:
    """Return the orientation tag (0x0112) of the first directory; 1 if it is missing or the directory is invalid."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
