"""Read, parse and hash many small JPEG files in one call of compiled code, without the GIL.

Python takes and drops the GIL six times per file; with several threads that costs more than reading the file. Only the
usual case is handled here: a whole upright JPEG in a regular file. The kernel stops before any other file and leaves it
and its errors to the caller's own code. Sources: as in `fastdc.beton.jpeg_header`; statx(2).
"""

import os

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.core.native import INT, LONG, c_function
from fastdc.kernels.jpeg.pread import read_at

# The C functions whose addresses `library` holds, in this order.
FUNCTIONS = ("open", "statx", "pread", "close", "SHA256")
_OPEN, _STATX, _PREAD, _CLOSE, _SHA256 = range(5)

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # opening a FIFO must not block
_EMPTY_PATH, _TYPE_AND_SIZE = 0x1000, 0x201  # AT_EMPTY_PATH: stat the descriptor itself; STATX_TYPE | STATX_SIZE
_REGULAR, _KIND = 0x8000, 0xF000  # S_IFREG, S_IFMT

_call_open = c_function(INT, [LONG, INT])
_call_statx = c_function(INT, [INT, LONG, INT, INT, LONG])
_call_close = c_function(INT, [INT])
_call_sha256 = c_function(LONG, [LONG, LONG, LONG])


@kernel
def read_jpegs(
    library: NDArray[np.int64],
    paths: NDArray[np.uint8],
    starts: NDArray[np.int64],
    max_pixels: int,
    data: NDArray[np.uint8],
    table: NDArray[np.int64],
    digests: NDArray[np.uint8],
) -> int:
    """Read files one after the other into `data`, up to the first that is not a plain JPEG or does not fit.

    Args:
        library: [5] addresses of `FUNCTIONS`.
        paths: the files' paths, each ending in a zero byte.
        starts: [N] where each path begins in `paths`.
        max_pixels: an image with more pixels does not count as a plain JPEG.
        data: flat uint8, C-contiguous; the files' bytes are written here, without gaps.
        table: int64 [N, 3], written: where the file ends in `data`, height, width.
        digests: uint8 [N, 32], C-contiguous, written: SHA-256 of the file.

    Returns:
        Number of files read, 0..N; `data`, `table` and `digests` are undefined beyond them.
    """
    state = np.zeros(32, np.int64)  # struct statx has 256 bytes
    reader = np.zeros(2, np.int64)
    reader[0] = library[_PREAD]
    begin = 0
    for number in range(starts.size):
        path = np.int64(paths.ctypes.data) + starts[number]
        size = _read_file(library, path, state, reader, data[begin:])
        if size <= 0:
            return number
        height, width = plain_jpeg_size(data[begin : begin + size])
        if height == 0 or height * width > max_pixels:
            return number
        place = np.int64(data.ctypes.data) + begin
        _call_sha256(library[_SHA256], (place, np.int64(size), np.int64(digests.ctypes.data) + 32 * number))
        begin += size
        table[number, 0], table[number, 1], table[number, 2] = begin, height, width
    return int(starts.size)


@kernel
def _read_file(
    library: NDArray[np.int64], path: int, state: NDArray[np.int64], reader: NDArray[np.int64], out: NDArray[np.uint8]
) -> int:
    """Read the whole file into `out` and return its size; -1 if it is unreadable, not a regular file or too large."""
    descriptor = _call_open(library[_OPEN], (np.int64(path), np.int64(_FLAGS)))
    if descriptor < 0:
        return -1
    size = _regular_size(library, descriptor, state)
    reader[1] = descriptor
    whole = 0 < size <= out.size and read_at(reader, 0, out[:size])
    _call_close(library[_CLOSE], (np.int64(descriptor),))
    return size if whole else -1


@kernel
def _regular_size(library: NDArray[np.int64], descriptor: int, state: NDArray[np.int64]) -> int:
    """Return the size of the open file; -1 if it is not a regular file.

    It calls statx because the layout of its struct, unlike that of fstat, is the same on all systems.
    """
    place = np.int64(state.ctypes.data)
    nothing = place + 248  # the struct's last bytes are spare: a zero there serves as the empty path
    state[31] = 0
    arguments = (np.int64(descriptor), nothing, np.int64(_EMPTY_PATH), np.int64(_TYPE_AND_SIZE), place)
    code = _call_statx(library[_STATX], arguments)
    # struct statx: stx_mode is the 16-bit word at byte 28, stx_size the 64-bit word at byte 40.
    mode = (state[3] >> 32) & _KIND
    return int(state[5]) if code == 0 and mode == _REGULAR else -1


@kernel
def plain_jpeg_size(jpeg: NDArray[np.uint8]) -> tuple[int, int]:
    """Return height and width of a whole, upright, Huffman-coded 8-bit grey or colour JPEG; else (0, 0).

    It finds the same facts as `fastdc.beton.jpeg_header.read_jpeg_header`, from the markers alone.
    """
    if jpeg.size < 4 or jpeg[0] != 0xFF or jpeg[1] != 0xD8:
        return 0, 0
    place, frame, upright = 2, 0, True
    while place + 4 <= jpeg.size and jpeg[place] == 0xFF:
        marker = jpeg[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a segment
            place += 2
            continue
        if marker == 0xDA:  # start of scan
            if upright and frame != 0 and _ends(jpeg, place):
                return _frame_size(jpeg, frame)
            return 0, 0
        length = _word(jpeg, place + 2, True)
        if length < 2 or marker == 0xD9:
            return 0, 0
        if frame == 0 and 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = place
        elif marker == 0xE1 and _is_exif(jpeg[place + 4 : place + 2 + length]):
            # Exif's TIFF part starts after marker, length and "Exif\0\0".
            upright = _is_upright(jpeg[place + 10 : place + 2 + length])
        place += 2 + length
    return 0, 0


@kernel
def _ends(jpeg: NDArray[np.uint8], scan: int) -> bool:
    """Return whether an end-of-image marker follows the scan.

    The search runs backwards, because the marker usually ends the file.
    """
    place = jpeg.size - 2
    while place >= scan and not (jpeg[place] == 0xFF and jpeg[place + 1] == 0xD9):
        place -= 1
    return place >= scan


@kernel
def _frame_size(jpeg: NDArray[np.uint8], frame: int) -> tuple[int, int]:
    """Return height and width in the frame header at `frame`; (0, 0) for kinds that some decoders do not support."""
    length = _word(jpeg, frame + 2, True)
    if length < 8 or frame + 10 > jpeg.size or jpeg[frame + 1] > 0xC2 or jpeg[frame + 4] != 8:
        return 0, 0
    height, width, components = _word(jpeg, frame + 5, True), _word(jpeg, frame + 7, True), jpeg[frame + 9]
    if height == 0 or width == 0 or not (components == 1 or components == 3):
        return 0, 0
    return height, width


@kernel
def _is_exif(segment: NDArray[np.uint8]) -> bool:
    if segment.size < 6 or segment[4] != 0 or segment[5] != 0:
        return False
    return bool(segment[0] == 0x45 and segment[1] == 0x78 and segment[2] == 0x69 and segment[3] == 0x66)  # "Exif"


@kernel
def _is_upright(tiff: NDArray[np.uint8]) -> bool:
    """Return whether the orientation tag (0x0112) of the first directory is 1, absent or invalid."""
    if tiff.size < 8:
        return True
    big = tiff[0] == 0x4D and tiff[1] == 0x4D and tiff[2] == 0 and tiff[3] == 42
    little = tiff[0] == 0x49 and tiff[1] == 0x49 and tiff[2] == 42 and tiff[3] == 0
    high, low = (_word(tiff, 4, big), _word(tiff, 6, big)) if big else (_word(tiff, 6, big), _word(tiff, 4, big))
    start = (high << 16) | low
    if not (big or little) or start + 2 > tiff.size:
        return True
    for entry in range(start + 2, start + 2 + 12 * _word(tiff, start, big), 12):
        if entry + 10 > tiff.size:
            return True
        if _word(tiff, entry, big) == 0x0112:
            kind, value = _word(tiff, entry + 2, big), _word(tiff, entry + 8, big)
            # kind 3 is SHORT
            return not (kind == 3 and 2 <= value <= 8)
    return True


@kernel
def _word(data: NDArray[np.uint8], place: int, big: bool) -> int:
    """Return two bytes as a number, big-endian if `big`."""
    first, second = np.int64(data[place]), np.int64(data[place + 1])
    return int(first << 8 | second if big else second << 8 | first)
