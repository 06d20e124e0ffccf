"""Write a `.beton` deterministically, to a temporary file that is renamed only once complete."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.encode_images import png_bytes
from fastdc.beton.format import MODE_RAW, Structure
from fastdc.beton.jpeg_header import read_jpeg_header
from fastdc.beton.manifest import Manifest, Skipped, dump_manifest, hash_content, hash_structure, manifest_path
from fastdc.beton.output_pair import beton_output, explain_errors
from fastdc.beton.pages import BetonWriter, Payload, hash_payload, jpeg_payload
from fastdc.beton.sample_order import Order
from fastdc.beton.texts import Texts
from fastdc.common.errors import SourceError
from fastdc.common.files import atomic_file
from fastdc.common.text import printable


class Sample(NamedTuple):
    """One image to store.

    Attributes:
        image: the bytes of a JPEG file, stored unchanged, or RGB pixels uint8 [H, W, 3], stored raw.
        label: class index.
        id: name of the sample in the manifest.
    """

    image: bytes | NDArray[np.uint8]
    label: int
    id: str


@dataclass(frozen=True)
class Origin:
    """Fields of a manifest that the writer cannot know: where the images came from and how they were made."""

    dataset: str
    split: str | None
    source: str
    classes: tuple[str, ...]
    made: dict[str, Any]
    hints: dict[str, Any]
    order: Order = "own"


def commit(
    handle: IO[bytes],
    out: Path,
    writer: BetonWriter,
    origin: Origin,
    ids: Texts,
    converted: Mapping[str, int],
    skipped: Sequence[Skipped],
) -> Manifest:
    """Complete the beton in `handle`, then put its manifest in place; the caller's block renames the beton.

    The manifest goes first. A crash between the two renames then leaves a manifest that does not match the old beton,
    which `load_manifest` reports. It never leaves a beton without its manifest.
    """
    structure, hashes = complete(handle, out, writer)
    labels = structure.metadata["label"]
    manifest = Manifest(
        dataset=printable(origin.dataset),
        split=origin.split,
        classes=origin.classes,
        counts=tuple(np.bincount(labels, minlength=len(origin.classes)).tolist()),
        ids=ids,
        hashes=hashes,
        source=printable(origin.source),
        made=origin.made,
        converted=dict(sorted(converted.items())),
        skipped=tuple(skipped),
        hints=origin.hints,
        order=origin.order,
        image_bytes=writer.image_bytes,
        content_hash=hash_content(origin.classes, labels, hashes, origin.hints),
        file_bytes=structure.file_bytes,
        structure_hash=hash_structure(structure),
    )
    write_manifest(out, manifest)
    return manifest


def complete(handle: IO[bytes], out: Path, writer: BetonWriter) -> tuple[Structure, Texts]:
    """Write the tables of the beton in `handle` to disk; return its structure and the hash of every payload."""
    structure, hashes = writer.finish()
    with explain_errors(out):
        os.fsync(handle.fileno())  # before the rename, or a crash could leave an empty file under the final name
    return structure, hashes


def write_manifest(out: Path, manifest: Manifest) -> None:
    """Put the manifest of the beton `out` in place."""
    with atomic_file(manifest_path(out)) as file:
        file.writelines(dump_manifest(manifest))


def write_samples(
    out: Path,
    samples: Iterable[Sample],
    *,
    classes: Sequence[str],
    dataset: str,
    split: str | None,
    source: str,
    made: dict[str, Any],
    hints: dict[str, Any] | None = None,
    force: bool = False,
) -> Manifest:
    """Write images that are already in memory (a compressed subset, an array data set) as `out` and its manifest.

    Args:
        out: the `.beton` to write; its manifest goes beside it.
        samples: the images, in the order of their future indices; consumed one by one.
        classes: names of the classes, indexed by `Sample.label`.
        dataset, split, source, made, hints: see `Manifest`. `made` must not contain times or machine names.
        force: replace an existing file.

    Raises:
        SourceError: there are no samples, a label is outside the classes, pixels are not uint8 [H, W, 3], or bytes are
            not a JPEG that FFCV can decode.
        OutputError: `out` cannot be written.
    """
    out = Path(out)
    origin = Origin(dataset, split, source, tuple(map(printable, classes)), dict(made), dict(hints or {}))
    ids: list[str] = []
    with beton_output(out, force) as handle:
        writer = BetonWriter(handle, out)
        for index, sample in enumerate(samples):
            if not 0 <= sample.label < len(classes):
                raise SourceError(f"sample {index} ({sample.id}): label {sample.label}, expected 0..{len(classes) - 1}")
            try:
                payload = make_payload(sample.image)
                counted = None if isinstance(sample.image, bytes) else png_bytes(sample.image)
                writer.append(payload._replace(png_bytes=counted), int(sample.label), index)
            except SourceError as error:
                raise SourceError(f"sample {index} ({sample.id}): {error}") from error
            ids.append(printable(sample.id))
        if not ids:
            raise SourceError(f"{out}: no samples to write, expected at least one")
        return commit(handle, out, writer, origin, Texts.of(ids), {}, ())


def make_payload(image: bytes | NDArray[np.uint8]) -> Payload:
    """Return the payload for JPEG bytes (unchanged) or pixels uint8 [H, W, 3] (raw).

    Raises:
        SourceError: the image is neither.
    """
    if isinstance(image, bytes):
        header = read_jpeg_header(image)
        if header is None or not header.common or not header.complete:
            raise SourceError("bytes that are not a whole 8-bit grey or colour JPEG, expected such or RGB pixels")
        return jpeg_payload(image, header.height, header.width)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise SourceError(f"pixels {image.dtype} {list(image.shape)}, expected uint8 [H, W, 3]")
    data = np.ascontiguousarray(image).reshape(-1).data
    return Payload(data, MODE_RAW, image.shape[0], image.shape[1], hash_payload(data))
