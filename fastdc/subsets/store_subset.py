"""Store a compressed set as one beton: S x S JPEGs of quality 75, or raw pixels (which count as PNG)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastdc._version import __version__
from fastdc.beton import BetonFile, Manifest, Sample, encode_jpeg, fit_image, write_samples
from fastdc.beton.format import MODE_RAW
from fastdc.common.log import log_message
from fastdc.methods import Compressed, Method, MethodContext
from fastdc.methods.bases.method_config import Fit
from fastdc.methods.check_result import checked_images
from fastdc.subsets.list_files import Combined
from fastdc.subsets.lists import list_path, write_list

STORAGE_VERSION = 1
"""Version of the stored bytes, raised whenever equal images are stored differently; part of every cache key."""


def store_compressed(
    out: Path,
    compressed: Compressed,
    beton: BetonFile,
    manifest: Manifest,
    fit: Fit | None,
    image_size: int,
    made: dict[str, Any],
    force: bool,
) -> Manifest:
    """Write a compressed set as a beton.

    Args:
        beton, manifest: the training set.
        fit: how a kept image becomes S x S; None stores its bytes unchanged.
        image_size: side S in pixels; a mosaic with its own side overrides it.
        made: provenance for the manifest.
    """
    return write_samples(
        out,
        _samples(compressed, beton, manifest, fit, image_size),
        classes=manifest.classes,
        dataset=manifest.dataset,
        split=manifest.split,
        source=f"{manifest.dataset} {manifest.content_hash}",
        made=made,
        hints=compressed.hints,
        force=force,
    )


def made_by(name: str, manifest: Manifest) -> dict[str, Any]:
    """Return the first entries of the provenance of a set by `fastdc compress NAME` from a training set."""
    made = {"tool": "fastdc", "version": __version__, "command": f"compress {name}"}
    return {**made, "storage": STORAGE_VERSION, "train": manifest.content_hash}


def note_enlarged(beton: BetonFile, image_size: int) -> None:
    """Report that every image of a training set is enlarged to the default side, which no option set."""
    side = int(np.minimum(beton.heights, beton.widths).max())
    if side < image_size:
        log_message(
            f"note: {beton.path}: its images, of {side} px at most (shorter side), are enlarged to {image_size} px; "
            f"--image-size {side} keeps their size"
        )


def _samples(
    compressed: Compressed, beton: BetonFile, manifest: Manifest, fit: Fit | None, image_size: int
) -> Iterator[Sample]:
    ids = _sample_ids(compressed, manifest)
    if fit is None:
        for name, label, row in zip(ids, compressed.labels, compressed.sources, strict=True):
            index = int(row[0])
            raw = beton.modes[index] == MODE_RAW
            yield Sample(beton.decode(index) if raw else bytes(beton.payload(index)), int(label), name)
        return
    if compressed.images is not None:
        mosaic = compressed.mosaic
        side = image_size if mosaic is None or mosaic.side is None else mosaic.side
        images = checked_images(compressed.images, len(compressed.labels), side)
    else:
        images = (fit_image(beton.decode(int(row[0])), image_size, fit) for row in compressed.sources)
    for image, label, name in zip(images, compressed.labels, ids, strict=True):
        if isinstance(image, bytes) or compressed.encoding == "png":  # JPEGs made by the method, or raw pixels
            yield Sample(image, int(label), name)
        else:
            yield Sample(encode_jpeg(image), int(label), name)


def _sample_ids(compressed: Compressed, manifest: Manifest) -> list[str]:
    """Return an id for each stored image: those of its training images, or class and number if it has none."""
    if compressed.sources.shape[1] > 0:
        return ["+".join(manifest.ids[index] for index in row) for row in compressed.sources]
    return [f"{manifest.classes[label]}/made-{number:06d}" for number, label in enumerate(compressed.labels)]


def store_list(out: Path, method: Method, compressed: Compressed, context: MethodContext, manifest: Manifest) -> None:
    """Write X.list.tsv of kept or tiled images beside X.beton; for synthesised images, remove a stale one."""
    if compressed.mosaic is not None or (compressed.sources.shape[1] > 0 and method.info.family != "distillation"):
        combined = Combined.of(method, compressed, context.image_size)
        kept = compressed.sources.ravel().tolist()
        write_list(list_path(out), manifest, context.labels, kept, context.scores, combined)
    else:
        list_path(out).unlink(missing_ok=True)
