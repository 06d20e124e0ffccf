"""Make batches straight from a beton: read, decode, crop, resize and mirror in one parallel loop."""

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastdc.kernels.core.jit import kernel, parallel_kernel
from fastdc.kernels.files.pread import read_at
from fastdc.kernels.jpeg.turbojpeg import close_decoder, decode_jpeg, open_decoder
from fastdc.kernels.views.view_batches import HEIGHT, PLACE_NUMBERS, TOP, draw_views, place_view

JPEG_MODE = 0
MADE, FAILED = 1, 2

_CHANNELS = 3


@kernel
def _largest(
    samples: NDArray[np.int64],
    sizes: NDArray[np.int64],
    modes: NDArray[np.uint8],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
) -> tuple[int, int]:
    """Return the bytes of the largest decoded image and of the largest JPEG file among the visits `samples`."""
    image, payload = 0, 0
    for visit in samples:
        sample = visit % sizes.shape[0]
        image = max(image, heights[sample] * widths[sample] * _CHANNELS)
        if modes[sample] == JPEG_MODE:
            payload = max(payload, sizes[sample])
    return image, payload


@kernel
def _rows_of(places: NDArray[np.int64]) -> tuple[int, int]:
    """Return the first row that any box in `places` [K, PLACE_NUMBERS] covers, and the row after the last."""
    first, end = places[0, TOP], places[0, TOP] + places[0, HEIGHT]
    for k in range(1, places.shape[0]):
        first = min(first, places[k, TOP])
        end = max(end, places[k, TOP] + places[k, HEIGHT])
    return first, end


@kernel
def stream_share(samples: NDArray[np.int64], storage: tuple[NDArray[Any], ...], share: int, shares: int) -> None:
    """Make the views of every `shares`-th sample of a batch, from position `share` on, decoding each sample once.

    Args:
        samples: [B] visit numbers.
        storage: see `decode_views`.
    """
    reader, library, offsets, sizes, modes, heights, widths = storage[:7]
    views, seeds, view_sides, levels, numbers, decodes, states, out = storage[7:]
    epoch = numbers[0]
    count = samples.shape[0]
    image_bytes, payload_bytes = _largest(samples[share::shares], sizes, modes, heights, widths)
    pixels, payloads = np.empty(image_bytes, np.uint8), np.empty(payload_bytes, np.uint8)
    places = np.empty((view_sides.shape[0], PLACE_NUMBERS), np.int64)
    decoder = open_decoder(library)
    for position in range(share, count, shares):
        sample = samples[position] % sizes.shape[0]
        height, width, start, size = heights[sample], widths[sample], offsets[sample], sizes[sample]
        for k in range(view_sides.shape[0]):
            place_view(views[k], seeds[k], epoch, samples[position], (height, width), view_sides[k], places[k])
        if modes[sample] == JPEG_MODE:
            first, end = 0, height
            image = pixels[: height * width * _CHANNELS].reshape((height, width, _CHANNELS))
            payload = payloads[:size]
            sound = read_at(reader, start, payload)
            if sound:
                sound = decode_jpeg(library, decoder, payload, image)
                # After a broken header, libturbojpeg's handle refuses every later image: start a new one.
                if not sound:
                    close_decoder(library, decoder)
                    decoder = open_decoder(library)
        else:  # raw pixels: read only the rows that some view shows
            first, end = _rows_of(places)
            image = pixels[: (end - first) * width * _CHANNELS].reshape((end - first, width, _CHANNELS))
            sound = size == height * width * _CHANNELS
            sound = sound and read_at(reader, start + first * width * _CHANNELS, image.reshape(image.size))
        if sound:
            draw_views(image, first, places, view_sides, levels, position, count, out)
            decodes[sample] += np.uint32(1)
        states[position] = MADE if sound else FAILED
    close_decoder(library, decoder)


@parallel_kernel
def decode_views(
    samples: NDArray[np.int64], memory: None, metadata: NDArray[np.void], storage: tuple[NDArray[Any], ...]
) -> NDArray[np.uint8]:
    """Make the views of a batch on numba's threads, with the arguments that FFCV passes to a decoder.

    Shares of the batch are interleaved, which evens out the sizes of their images.

    Args:
        samples: [B] visit numbers.
        memory, metadata: FFCV's own arguments, unused.
        storage: these arrays, in this order:
            reader, library: see `pread` and `turbojpeg`.
            offsets, sizes, modes, heights, widths: [N], the file's samples.
            views, seeds, view_sides: [K], levels: see `view_batches`.
            numbers: int64 [2], epoch and threads.
            decodes: [N], number of decodes of each sample, incremented.
            states: [B], set to MADE or FAILED for each sample; the views of a failed sample are not written.
            out: flat uint8, the whole batch, written.

    Returns:
        `out`.
    """
    shares = storage[11][1]
    for share in prange(shares):
        stream_share(samples, storage, share, shares)
    return storage[14]
