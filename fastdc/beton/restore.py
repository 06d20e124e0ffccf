"""Write an exported set as the beton that it was, checking every image against its hash."""

from pathlib import Path
from typing import IO

from fastdc.beton.exported import RECORD
from fastdc.beton.images import read_image
from fastdc.beton.jpeg_header import read_jpeg_header
from fastdc.beton.manifest import Manifest, find_mismatch, hash_structure
from fastdc.beton.pages import BetonWriter, Payload, jpeg_payload
from fastdc.beton.sources.source import FetchImage, Opened
from fastdc.beton.writer import complete, make_payload, write_manifest
from fastdc.common.errors import SourceError
from fastdc.common.log import progress
from fastdc.common.text import printable


def restore_beton(handle: IO[bytes], out: Path, opened: Opened, manifest: Manifest) -> Manifest:
    """Write the images of an exported set into `handle`, and its manifest beside `out`.

    Args:
        handle: the empty file that becomes `out`.
        opened: the exported set, in the order of its samples.
        manifest: manifest of the exported set.

    Returns:
        The manifest, whose content hash is that of the exported set.

    Raises:
        SourceError: an image is not the one that was exported, or lies in the folder of another class.
    """
    contents = opened.contents
    writer = BetonWriter(handle, out, len(contents.ids))
    with progress(f"write {out.name}", len(contents.ids)) as bar:
        for number, fetch in opened.files.fetch_all(contents.paths()):
            where = f"{opened.path}/{printable(contents.ids[number])}"
            payload = _read(fetch, where)
            if payload.digest.hex() != manifest.hashes[number]:
                raise SourceError(
                    f"{where}: is not the image that was exported (its hash differs); put that back, or remove "
                    f"{RECORD} to write the images as any others"
                )
            writer.append(payload, int(contents.labels[number]), number)
            bar.advance(1)
    structure, _ = complete(handle, out, writer)
    written = {"file_bytes": structure.file_bytes, "structure_hash": hash_structure(structure)}
    restored = manifest.model_copy(update=written)
    if find_mismatch(restored, structure):
        raise SourceError(
            f"{opened.path}: its images are those that were exported, but classes or hints are not: an image lies in "
            f"another class, or {RECORD} was changed; export the set again"
        )
    write_manifest(out, restored)
    return restored


def _read(fetch: FetchImage, where: str) -> Payload:
    """Return the payload of one image: a JPEG as it is, anything else as its pixels."""
    try:
        image = fetch()
        if not isinstance(image, bytes):
            return make_payload(image)
        header = read_jpeg_header(image)
        if header is None:
            return make_payload(read_image(image).pixels)
        return jpeg_payload(image, header.height, header.width)
    except OSError as error:
        raise SourceError(f"{where}: cannot be read ({error.strerror or error})") from error
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from error
