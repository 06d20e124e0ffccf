"""Checks of a method's results before anything is stored, because a method may be a third-party plug-in."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import decode_image
from fastdc.common.errors import MethodError, SourceError
from fastdc.methods.bases.method import Compressed, Method, MethodContext, StoredImage
from fastdc.methods.bases.method_config import MethodConfig


def check_scores(method: Method, scores: Any, images: int) -> None:
    """Refuse scores that cannot rank the training set.

    Args:
        images: number of training images.

    Raises:
        MethodError: the scores are not one number per training image, or one is not finite.
    """
    if scores is None:
        return
    where = f"method {method.info.name}: its scores"
    if not isinstance(scores, np.ndarray) or scores.shape != (images,) or scores.dtype.kind not in "fiu":
        raise MethodError(f"{where} are {_form(scores)}, expected numbers [{images}], one per training image")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise MethodError(f"{where} hold {scores[bad[0]]} for image {bad[0]} ({len(bad)} such), expected finite ones")


def check_compressed(method: Method, config: MethodConfig, compressed: Any, context: MethodContext, ipc: int) -> None:
    """Refuse a compressed set that does not fit the method, the training set or `ipc`.

    Raises:
        MethodError: the set is malformed; the message names the method and the wrong class, image or number.
    """
    where = f"method {method.info.name}"
    if not isinstance(compressed, Compressed):
        raise MethodError(f"{where}: gave {type(compressed).__name__}, expected fastdc.Compressed")
    labels, sources = compressed.labels, compressed.sources
    if not _are_integers(labels, 1):
        raise MethodError(f"{where}: labels are {_form(labels)}, expected integers [M]")
    if not _are_integers(sources, 2) or len(sources) != len(labels):
        raise MethodError(f"{where}: sources are {_form(sources)}, expected integers [{len(labels)}, K]")
    _check_range(f"{where}: label", labels, len(context.classes))
    _check_range(f"{where}: source", sources, len(context.labels))
    if not method.info.whole_set:
        _check_counts(where, method.class_balanced(config), labels, context, ipc)
    if compressed.images is None:
        _check_kept(where, compressed, context)
    elif not callable(compressed.images):
        raise MethodError(f"{where}: images are {_form(compressed.images)}, expected a function that makes them")
    mosaic = compressed.mosaic
    if mosaic is not None and (mosaic.grid**2 != sources.shape[1] or compressed.encoding != "jpg"):
        raise MethodError(
            f"{where}: its mosaics have grid {mosaic.grid}, {sources.shape[1]} sources and encoding "
            f"{compressed.encoding}, expected grid**2 sources and jpg; leave mosaic out of images made otherwise"
        )
    _check_views(where, method, config, compressed)
    for name in ("hints", "details"):
        try:
            json.dumps(getattr(compressed, name), allow_nan=False)  # by default Python writes NaN, which is not JSON
        except (TypeError, ValueError) as error:
            raise MethodError(f"{where}: its {name} are not plain data ({error}); use numbers, text, lists") from error


def _check_views(where: str, method: Method, config: MethodConfig, compressed: Compressed) -> None:
    """Refuse a number of views other than the one that the sweep was planned with."""
    given, planned = compressed.hints.get("tile_views", 1), method.training_crop(config).views
    if given != planned:
        raise MethodError(
            f"{where}: its hints set {given} views of an image in an epoch, its training_crop {planned}; "
            "return the same number from both"
        )


def checked_images(make: Callable[[], Iterator[StoredImage]], count: int, image_size: int) -> Iterator[StoredImage]:
    """Yield the images that a method makes, each checked as it arrives.

    Raises:
        MethodError: the number of images is not `count`, or an image is neither RGB uint8 [S, S, 3] nor a JPEG of that
            size.
    """
    made, expected = 0, (image_size, image_size, 3)
    for image in make():
        # A JPEG is decoded only to check it; its bytes are stored as they are.
        pixels = _decoded(image, made) if isinstance(image, bytes) else image
        if not isinstance(pixels, np.ndarray) or pixels.shape != expected or pixels.dtype != np.uint8:
            raise MethodError(f"image {made} that the method made is {_form(pixels)}, expected uint8 {list(expected)}")
        made += 1
        # The first surplus image ends the loop, because a plug-in's generator may never end.
        if made > count:
            break
        yield image
    if made != count:
        raise MethodError(f"the method made {'more' if made > count else made} images, expected {count}")


def _decoded(file: bytes, number: int) -> NDArray[np.uint8]:
    try:
        return decode_image(file)
    except SourceError as error:
        raise MethodError(f"image {number} that the method made: {error}") from error


def _check_counts(where: str, balanced: bool, labels: NDArray[Any], context: MethodContext, ipc: int) -> None:
    counts = np.bincount(labels, minlength=len(context.classes))
    if balanced and (counts != ipc).any():
        label = int(np.flatnonzero(counts != ipc)[0])
        raise MethodError(f"{where}: gave class '{context.classes[label]}' {counts[label]} images, expected {ipc}")
    if len(labels) != ipc * len(context.classes):
        raise MethodError(f"{where}: gave {len(labels)} images, expected {ipc * len(context.classes)}")


def _check_kept(where: str, compressed: Compressed, context: MethodContext) -> None:
    """Require that a set of kept images holds each image once, with its label in the training set."""
    if compressed.sources.shape[1] != 1:
        raise MethodError(f"{where}: kept images with {compressed.sources.shape[1]} sources each, expected 1")
    kept = compressed.sources[:, 0]
    values, counts = np.unique(kept, return_counts=True)
    if (counts > 1).any():
        image = int(values[counts > 1][0])
        raise MethodError(f"{where}: kept image {image} {counts.max()} times, expected each at most once")
    wrong = np.flatnonzero(context.labels[kept] != compressed.labels)
    if len(wrong):
        given, true = int(compressed.labels[wrong[0]]), int(context.labels[kept[wrong[0]]])
        names = f"'{context.classes[given]}', which is '{context.classes[true]}'"
        raise MethodError(f"{where}: gave image {kept[wrong[0]]} the label {names} in the training set")


def _check_range(what: str, values: NDArray[Any], end: int) -> None:
    if values.size and not 0 <= (low := int(values.min())) <= (high := int(values.max())) < end:
        raise MethodError(f"{what} {low if low < 0 else high} is out of range, expected 0 to {end - 1}")


def _are_integers(values: Any, dimensions: int) -> bool:
    # Kinds i and u leave out bool, which would otherwise pass as labels 0 and 1.
    return isinstance(values, np.ndarray) and values.ndim == dimensions and values.dtype.kind in "iu"


def _form(value: Any) -> str:
    """Return type and shape, for a message."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
