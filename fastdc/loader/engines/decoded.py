"""Betons in memory: every image decoded once per process, or its validation view made once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.loader.descriptor import StoredFile
from fastdc.loader.file_checks import decode_sample
from fastdc.loader.image_cache import FileIdentity
from fastdc.loader.stream import Delivery, ViewPlan
from fastdc.loader.view_settings import EvalView, View, ViewRequest

_CHANNELS = 3


class DecodedImages(NamedTuple):
    """All decoded images of a beton: image i is heights[i] x widths[i] x 3 bytes of `pixels`, from offsets[i] on."""

    pixels: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]


def resident_key(identity: FileIdentity, view: View) -> tuple[FileIdentity, EvalView | None]:
    """Return the cache key of the images that `view` needs; decoded images serve every training view."""
    return identity, view if isinstance(view, EvalView) else None


def resident_bytes(file: StoredFile, view: View) -> int:
    """Return the bytes of memory kept for `view`: decoded images, or finished validation views."""
    if isinstance(view, EvalView):
        return file.num_samples * view.size * view.size * _CHANNELS
    return int((file.heights * file.widths).sum()) * _CHANNELS


def decode_all(file: StoredFile, workers: int) -> DecodedImages:
    """Decode every image of `file` into one buffer.

    Raises:
        LoaderError: an image cannot be decoded, or the file was changed meanwhile.
    """
    sizes = file.heights * file.widths * _CHANNELS
    offsets = np.cumsum(sizes) - sizes
    pixels = np.empty(int(sizes.sum()), np.uint8)

    def keep(sample: int, image: NDArray[np.uint8]) -> None:
        pixels[offsets[sample] : offsets[sample] + sizes[sample]] = image.reshape(-1)

    for_each_image(file, workers, 0, file.num_samples, keep)
    return DecodedImages(pixels, offsets, file.heights, file.widths)


def finish_views(file: StoredFile, view: EvalView, workers: int) -> NDArray[np.uint8]:
    """Make the validation view of every image, uint8 [N, S * S * 3]; the decoded images are not kept.

    Raises:
        LoaderError: as `decode_all`.
    """
    views = np.empty((file.num_samples, view.size * view.size * _CHANNELS), np.uint8)
    for_each_image(file, workers, 0, file.num_samples, finisher(view, views, 0))
    return views


def finisher(view: EvalView, views: NDArray[np.uint8], first: int) -> Callable[[int, NDArray[np.uint8]], None]:
    """Return a function that writes the view of sample `first` + i to row i of `views` uint8 [n, S * S * 3]."""
    plan = ViewPlan([ViewRequest(view)], Delivery())

    def finish(sample: int, image: NDArray[np.uint8]) -> None:
        plan.make(image, 0, sample, 0, 1, views[sample - first])

    return finish


def keeper(rows: NDArray[np.uint8], first: int) -> Callable[[int, NDArray[np.uint8]], None]:
    """Return a function that writes the pixels of sample `first` + i to row i of `rows` uint8 [n, H * W * 3].

    All images must have the same size.
    """

    def keep(sample: int, image: NDArray[np.uint8]) -> None:
        rows[sample - first] = image.reshape(-1)

    return keep


def for_each_image(
    file: StoredFile, workers: int, first: int, end: int, use: Callable[[int, NDArray[np.uint8]], None]
) -> None:
    """Call `use(sample, image)` for the samples first .. end - 1 on `workers` threads.

    Decoding and `use` release the GIL.

    Raises:
        LoaderError: an image cannot be decoded, or the file was changed.
    """
    stop = threading.Event()

    def share(number: int) -> None:
        try:
            for sample in range(first + number, end, workers):
                if stop.is_set():
                    return
                use(sample, decode_sample(file, sample))
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(workers, thread_name_prefix="fastdc-decode") as pool:
        try:
            for done in [pool.submit(share, number) for number in range(workers)]:
                done.result()
        finally:
            stop.set()  # without this, Ctrl-C would wait until everything is decoded
    file.check_unchanged(end - 1)
