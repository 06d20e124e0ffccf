"""One `.npz` of decoded pixels and labels."""

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.export.layout import ExportSet, Layout, check_class_list
from fastdc.beton.exported import RECORD, Exported, dump_record
from fastdc.beton.format import MODE_JPEG
from fastdc.beton.manifest import Manifest, hash_content
from fastdc.beton.pages import DIGEST_BYTES, hash_payload
from fastdc.beton.texts import hex_texts
from fastdc.common.errors import OutputError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip holds: equal sets give equal files


class AsNpz(Layout):
    """Arrays `images` uint8 [N, H, W, 3], `labels` int64 [N] and `classes` [C], with the record as a further member.

    A set of JPEGs is decoded, so the record describes a set of raw pixels, whose content hash differs.
    """

    name = "npz"
    title = "one file: images (decoded pixels), labels, classes"
    suffix = ".npz"

    def write(self, images: ExportSet, place: Path) -> None:
        """See `Layout`.

        Raises:
            OutputError: the images differ in size; see also `check_class_list`.
        """
        check_class_list(images)
        beton = images.beton
        height, width = _one_size(images)
        digests = bytearray()
        with zipfile.ZipFile(place, "w") as archive:
            with archive.open(zipfile.ZipInfo("images.npy", _EPOCH), "w", force_zip64=True) as member:
                _write_header(member, np.dtype(np.uint8), (len(beton), height, width, 3))
                for index in images.indices():
                    pixels = beton.decode(index).tobytes()
                    digests += hash_payload(pixels)
                    member.write(pixels)
            _write_array(archive, "labels", beton.labels)
            _write_array(archive, "classes", np.array(images.manifest.classes))
            record = Exported(
                layout=self.name, split=None, folders=None, files=1, manifest=_decoded(images, bytes(digests))
            )
            with archive.open(zipfile.ZipInfo(RECORD, _EPOCH), "w", force_zip64=True) as member:
                member.writelines(dump_record(record))

    def notes(self, images: ExportSet, out: Path) -> list[str]:
        jpegs = int((images.beton.modes == MODE_JPEG).sum())
        return [f"{jpegs:,} JPEGs are decoded to pixels: the set comes back as raw images"] if jpegs else []


def _one_size(images: ExportSet) -> tuple[int, int]:
    sizes = np.unique(np.stack([images.beton.heights, images.beton.widths], axis=1), axis=0).tolist()
    if len(sizes) > 1:
        raise OutputError(
            f"{images.path}: images of {len(sizes)} sizes, such as {sizes[0][0]} x {sizes[0][1]} and {sizes[-1][0]} x "
            f"{sizes[-1][1]}; an array holds one: use another layout, or write the set with one size"
        )
    return sizes[0][0], sizes[0][1]


def _decoded(images: ExportSet, digests: bytes) -> Manifest:
    """Return the manifest of the decoded set; the original one if all its images are raw already."""
    known, beton = images.manifest, images.beton
    hashes = hex_texts(memoryview(digests), DIGEST_BYTES)
    content = hash_content(known.classes, beton.labels, hashes, known.hints)
    if content == known.content_hash:
        return known
    changed = {
        "hashes": hashes,
        "content_hash": content,
        "made": {**known.made, "decoded_from": known.content_hash},
        "image_bytes": int((beton.heights * beton.widths * 3).sum()),
    }
    return known.model_copy(update=changed)


def _write_array(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as member:
        _write_header(member, values.dtype, values.shape)
        member.write(np.ascontiguousarray(values).tobytes())


def _write_header(member: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)


LAYOUT = AsNpz()
