"""Batches straight from the bytes of a beton: decode, crop, resize and mirror in one parallel loop."""

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastdc.kernels.batches import make_view
from fastdc.kernels.jit import kernel, parallel_kernel
from fastdc.kernels.turbojpeg import close_decoder, decode_jpeg, open_decoder

JPEG_MODE = 0
MADE, FAILED = 1, 2


@kernel
def _largest_image(samples: NDArray[np.int64], heights: NDArray[np.int64], widths: NDArray[np.int64]) -> int:
    """Bytes of the largest decoded image among `samples`."""
    largest = 0
    for sample in samples:
        largest = max(largest, heights[sample] * widths[sample] * 3)
    return largest


@kernel
def stream_share(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    modes: NDArray[np.uint8],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    samples: NDArray[np.int64],
    view: NDArray[np.float64],
    seed: int,
    epoch: int,
    library: NDArray[np.int64],
    states: NDArray[np.uint8],
    share: int,
    shares: int,
    out: NDArray[np.uint8],
) -> None:
    """Every `shares`-th view of a batch, from position `share` on.

    Args:
        data: the whole file; offsets, sizes, modes, heights, widths: [N], its samples.
        samples: [B] sample numbers; view: [VIEW_NUMBERS] (see `batches`); library: see `turbojpeg`.
        states: [N], set to MADE or FAILED for each sample of the share; a failed sample's view is not written.
        out: uint8 [B, S, S, 3], written.
    """
    scratch = np.empty(_largest_image(samples[share::shares], heights, widths), np.uint8)
    decoder = open_decoder(library)
    for position in range(share, samples.shape[0], shares):
        sample = samples[position]
        height, width = heights[sample], widths[sample]
        payload = data[offsets[sample] : offsets[sample] + sizes[sample]]
        pixels = scratch[: height * width * 3]
        image = pixels.reshape((height, width, 3))
        if modes[sample] == JPEG_MODE:
            sound = decode_jpeg(library, decoder, payload, image)
            if not sound:  # a decoder that met a broken header is left in its middle and refuses every later image
                close_decoder(library, decoder)
                decoder = open_decoder(library)
        else:  # copied, so that the mapped (read-only) file needs no second compilation of all that follows
            sound = payload.size == pixels.size
            if sound:
                pixels[:] = payload
        if sound:
            make_view(image, view, seed, epoch, sample, out[position])
        states[sample] = MADE if sound else FAILED
    close_decoder(library, decoder)


@parallel_kernel
def stream_batch(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    modes: NDArray[np.uint8],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    samples: NDArray[np.int64],
    view: NDArray[np.float64],
    seed: int,
    epoch: int,
    library: NDArray[np.int64],
    states: NDArray[np.uint8],
    shares: int,
    out: NDArray[np.uint8],
) -> None:
    """All `shares` of a batch at once, on numba's threads; see `stream_share`. Interleaved shares even out sizes."""
    for share in prange(shares):
        stream_share(
            data,
            offsets,
            sizes,
            modes,
            heights,
            widths,
            samples,
            view,
            seed,
            epoch,
            library,
            states,
            share,
            shares,
            out,
        )


@kernel
def decode_views(
    samples: NDArray[np.int64], memory: None, metadata: NDArray[np.void], storage: tuple[NDArray[Any], ...]
) -> NDArray[np.uint8]:
    """The views of a batch as a new array, with the arguments that FFCV gives to a decoder.

    Args:
        samples: [B] sample numbers.
        memory, metadata: FFCV's; not used.
        storage: data, offsets, sizes, modes, heights, widths, view, numbers, library, states: see `stream_share`;
            numbers is int64 [4]: augmentation seed, epoch, side of the views, threads.

    Returns:
        uint8 [B, S, S, 3]; views of samples whose state is FAILED hold anything.
    """
    data, offsets, sizes, modes, heights, widths, view, numbers, library, states = storage
    seed, epoch, side, threads = numbers[0], numbers[1], numbers[2], numbers[3]
    out = np.empty((samples.shape[0], side, side, 3), np.uint8)
    stream_batch(
        data, offsets, sizes, modes, heights, widths, samples, view, seed, epoch, library, states, threads, out
    )
    return out
