"""Decode JPEGs with libturbojpeg from compiled kernels.

Source: the TurboJPEG 2 API (turbojpeg.h), which later versions keep unchanged.
"""

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.core.native import INT, LONG, c_function

# The functions whose addresses `library` holds, in this order.
FUNCTIONS = ("tjInitDecompress", "tjDestroy", "tjDecompressHeader3", "tjDecompress2")
_INIT, _DESTROY, _HEADER, _DECOMPRESS = range(4)

_RGB = 0  # TJPF_RGB
_ACCURATE_DCT = 4096  # TJFLAG_ACCURATEDCT, as in Pillow; FFCV's own decoder uses the faster, coarser DCT

_call_init = c_function(LONG, [LONG])  # the C function takes no argument; a surplus one is harmless
_call_destroy = c_function(INT, [LONG])
_call_header = c_function(INT, [LONG] * 7)
_call_decompress = c_function(INT, [LONG, LONG, LONG, LONG, INT, INT, INT, INT, INT])


@kernel
def open_decoder(library: NDArray[np.int64]) -> int:
    """Return a new decoder handle, or 0 when out of memory; close it with `close_decoder`.

    Only one thread at a time may use a handle.
    """
    return int(_call_init(library[_INIT], (np.int64(0),)))


@kernel
def close_decoder(library: NDArray[np.int64], decoder: int) -> None:
    """Free a decoder handle; do nothing for 0."""
    if decoder != 0:
        _call_destroy(library[_DESTROY], (np.int64(decoder),))


@kernel
def is_progressive(jpeg: NDArray[np.uint8]) -> bool:
    """Return whether the first frame of a JPEG is progressive (marker SOF2); False if it is not a JPEG."""
    place = 2
    while place + 3 < jpeg.size and jpeg[place] == 0xFF:
        marker = jpeg[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
        # SOF0..SOF15; 0xC4, 0xC8 and 0xCC in that range are DHT, JPG and DAC.
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return bool(marker == 0xC2)
        else:
            place += 2 + 256 * int(jpeg[place + 2]) + int(jpeg[place + 3])
    return False


@kernel
def decode_jpeg(library: NDArray[np.int64], decoder: int, jpeg: NDArray[np.uint8], out: NDArray[np.uint8]) -> bool:
    """Decode `jpeg` into `out` [H, W, 3] RGB; return False if it is damaged, of another size, or gives a warning.

    Progressive files are refused. Versions of the library differ in how they smooth files whose last scans are missing,
    and give no warning. The caller's slower decoder is one version on every machine.

    Args:
        library: [4] addresses of `FUNCTIONS`.
        decoder: a handle from `open_decoder`.
        jpeg: [n] the file's bytes.
        out: uint8 [H, W, 3], C-contiguous, written.
    """
    if decoder == 0 or is_progressive(jpeg):
        return False
    height, width = out.shape[0], out.shape[1]
    found = np.zeros(4, np.int32)  # width, height, subsampling, colour space
    data, size, place = np.int64(jpeg.ctypes.data), np.int64(jpeg.size), np.int64(found.ctypes.data)
    code = _call_header(library[_HEADER], (np.int64(decoder), data, size, place, place + 4, place + 8, place + 12))
    # tjDecompress2 scales an image of another size to fit, so a wrong size would go unnoticed.
    if code != 0 or found[0] != width or found[1] != height:
        return False
    code = _call_decompress(
        library[_DECOMPRESS],
        (
            np.int64(decoder),
            data,
            size,
            np.int64(out.ctypes.data),
            np.int64(width),
            np.int64(3 * width),
            np.int64(height),
            np.int64(_RGB),
            np.int64(_ACCURATE_DCT),
        ),
    )
    return bool(code == 0)
