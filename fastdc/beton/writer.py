"""Writing a `.beton`: deterministic, to a temporary file that is renamed only when whole."""

import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.format import (
    ALLOCATION,
    DEFAULT_PAGE_SIZE,
    MAX_PAGE_SIZE,
    MAX_SIDE,
    METADATA,
    METADATA_START,
    MODE_JPEG,
    MODE_RAW,
    Structure,
    align_up,
    make_preamble,
)
from fastdc.beton.jpeg import read_jpeg_header
from fastdc.beton.manifest import (
    Manifest,
    Skipped,
    dump_manifest,
    hash_content,
    hash_structure,
    manifest_path,
)
from fastdc.beton.output import beton_output, explain_errors
from fastdc.errors import SourceError
from fastdc.files import write_atomic
from fastdc.hashing import bytes_key


class Sample(NamedTuple):
    """One image to store.

    Attributes:
        image: the bytes of a JPEG file, stored untouched, or RGB pixels uint8 [H, W, 3], stored raw.
        label: class index.
        id: name of the sample in the manifest.
    """

    image: bytes | NDArray[np.uint8]
    label: int
    id: str


class Payload(NamedTuple):
    """An image as it will lie in the file."""

    data: bytes | memoryview
    mode: int
    height: int
    width: int
    hash: str


@dataclass(frozen=True)
class Origin:
    """The part of a manifest that the writer cannot know: where the images came from and how they were made."""

    dataset: str
    split: str | None
    source: str
    classes: tuple[str, ...]
    made: dict[str, Any]
    hints: dict[str, Any]


class BetonWriter:
    """Puts payloads into FFCV's pages, one after the other, and the tables around them at the end.

    A payload that does not fit the rest of a page opens the next one, as in FFCV. Should one not fit any page, or more
    samples come than there is room for in front of the first page, everything written so far moves once.

    Args:
        handle: an empty file, open for reading and writing, seekable.
        out: the name it will get; for messages, and its folder for temporary files.
        capacity: how many samples will come, if known; only saves the move.
    """

    def __init__(self, handle: IO[bytes], out: Path, capacity: int = 0) -> None:
        self._handle = handle
        self._out = out
        self._page_size = DEFAULT_PAGE_SIZE
        self._metadata_end = METADATA_START + capacity * METADATA.itemsize
        self._position = self._start = align_up(self._metadata_end, self._page_size)
        self._columns = {name: array("q") for name in ("mode", "width", "height", "ptr", "size", "label", "sample_id")}

    def append(self, payload: Payload, label: int, sample_id: int) -> None:
        """Store the payload of sample `sample_id`; ids may come in any order, but at the end must be 0..N-1.

        Raises:
            SourceError: the image has a side above 65,535 pixels or needs more than the largest page (1 GiB).
            OutputError: the disk is full or fails.
        """
        size = len(payload.data)
        if not (0 < payload.height <= MAX_SIDE and 0 < payload.width <= MAX_SIDE):
            raise SourceError(f"image of {payload.height} x {payload.width} pixels; the format holds 1..{MAX_SIDE}")
        if size > MAX_PAGE_SIZE:
            raise SourceError(f"image of {size} bytes as stored; the format holds at most {MAX_PAGE_SIZE}")
        count = len(self._columns["label"]) + 1
        with explain_errors(self._out):
            if size > self._page_size or METADATA_START + count * METADATA.itemsize > self._start:
                self._relocate(max(self._page_size, 1 << (size - 1).bit_length()), 2 * count)
            pointer = self._place(payload.data)
        row = (payload.mode, payload.width, payload.height, pointer, size, label, sample_id)
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def _place(self, data: bytes | memoryview) -> int:
        """Write `data` at the next position where it fits one page."""
        left = -self._position % self._page_size or self._page_size
        if len(data) > left:
            self._position += left
        if self._handle.tell() != self._position:
            self._handle.seek(self._position)
        self._handle.write(data)
        self._position += len(data)
        return self._position - len(data)

    def _relocate(self, page_size: int, capacity: int) -> None:
        """Move the payloads to the layout of a larger page size, or behind a larger metadata table."""
        old = list(zip(self._columns["ptr"], self._columns["size"], strict=True))
        with tempfile.TemporaryFile(dir=self._out.parent) as spare:
            for pointer, size in old:
                self._handle.seek(pointer)
                spare.write(self._handle.read(size))
            self._handle.truncate(0)
            spare.seek(0)
            self._page_size = page_size
            self._metadata_end = max(self._metadata_end, METADATA_START + capacity * METADATA.itemsize)
            self._position = self._start = align_up(self._metadata_end, page_size)
            self._columns["ptr"] = array("q", (self._place(spare.read(size)) for _, size in old))

    def renumber(self, sample_ids: Sequence[int]) -> None:
        """Close the gaps that left-out samples made: of the ids used so far, sorted, the i-th becomes i."""
        numbers = np.frombuffer(self._columns["sample_id"], np.int64)
        self._columns["sample_id"] = array("q", np.searchsorted(np.asarray(sample_ids), numbers).tobytes())

    def finish(self) -> Structure:
        """Write allocation table, metadata and header. The file is complete afterwards, but not yet fsynced."""
        columns = {name: np.frombuffer(column, np.int64) for name, column in self._columns.items()}
        order = np.argsort(columns["sample_id"], kind="stable")
        metadata = np.zeros(len(order), METADATA)
        for name, column in (("mode", "mode"), ("width", "width"), ("height", "height"), ("data_ptr", "ptr")):
            metadata["image"][name] = columns[column][order]
        metadata["label"] = columns["label"][order]
        table = np.zeros(len(order), ALLOCATION)
        for name in ("sample_id", "ptr", "size"):
            table[name] = columns[name]
        self._handle.seek(self._position)
        self._handle.write(table.tobytes())
        self._handle.seek(0)
        self._handle.write(make_preamble(len(metadata), self._page_size, self._position) + metadata.tobytes())
        return Structure(self._page_size, self._position + table.nbytes, self._position, metadata, table[order])


def commit(
    handle: IO[bytes],
    out: Path,
    writer: BetonWriter,
    origin: Origin,
    ids: Sequence[str],
    hashes: Sequence[str],
    converted: Mapping[str, int],
    skipped: Sequence[Skipped],
) -> Manifest:
    """Complete the beton in `handle`, then put its manifest in place; the caller's block renames the beton.

    The manifest goes first: a crash between the two renames leaves a manifest that does not fit the old beton, which
    `load_manifest` says, and never a beton without its manifest.
    """
    with explain_errors(out):
        structure = writer.finish()
        handle.flush()
        os.fsync(handle.fileno())
    labels = structure.metadata["label"]
    manifest = Manifest(
        dataset=printable(origin.dataset),
        split=origin.split,
        classes=origin.classes,
        counts=tuple(np.bincount(labels, minlength=len(origin.classes)).tolist()),
        ids=tuple(ids),
        hashes=tuple(hashes),
        source=printable(origin.source),
        made=origin.made,
        converted=dict(sorted(converted.items())),
        skipped=tuple(skipped),
        hints=origin.hints,
        image_bytes=int(structure.allocations["size"].sum()),
        content_hash=hash_content(origin.classes, labels, hashes, origin.hints),
        file_bytes=structure.file_bytes,
        structure_hash=hash_structure(structure),
    )
    write_atomic(manifest_path(out), dump_manifest(manifest))
    return manifest


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
        samples: the images, in the order in which they get their indices; consumed one by one.
        classes: names of the classes; `Sample.label` indexes them.
        dataset, split, source, made, hints: see `Manifest`. `made` must not hold times or machine names.
        force: replace an existing file.

    Raises:
        SourceError: no samples, a label outside the classes, pixels that are not uint8 [H, W, 3], or bytes that are
            not a JPEG which FFCV can decode.
        OutputError: `out` cannot be written.
    """
    out = Path(out)
    origin = Origin(dataset, split, source, tuple(map(printable, classes)), dict(made), dict(hints or {}))
    ids: list[str] = []
    hashes: list[str] = []
    with beton_output(out, force) as handle:
        writer = BetonWriter(handle, out)
        for index, sample in enumerate(samples):
            if not 0 <= sample.label < len(classes):
                raise SourceError(f"sample {index} ({sample.id}): label {sample.label}, expected 0..{len(classes) - 1}")
            try:
                payload = make_payload(sample.image)
                writer.append(payload, int(sample.label), index)
            except SourceError as error:
                raise SourceError(f"sample {index} ({sample.id}): {error}") from error
            ids.append(printable(sample.id))
            hashes.append(payload.hash)
        if not ids:
            raise SourceError(f"{out}: no samples to write, expected at least one")
        return commit(handle, out, writer, origin, ids, hashes, Counter(), ())


def make_payload(image: bytes | NDArray[np.uint8]) -> Payload:
    """The payload for JPEG bytes (untouched) or pixels uint8 [H, W, 3] (raw).

    Raises:
        SourceError: neither of the two.
    """
    if isinstance(image, bytes):
        header = read_jpeg_header(image)
        if header is None or not header.common or not header.complete:
            raise SourceError("bytes that are not a whole 8-bit grey or colour JPEG, expected such or RGB pixels")
        return Payload(image, MODE_JPEG, header.height, header.width, bytes_key(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise SourceError(f"pixels {image.dtype} {list(image.shape)}, expected uint8 [H, W, 3]")
    data = np.ascontiguousarray(image).reshape(-1).data
    return Payload(data, MODE_RAW, image.shape[0], image.shape[1], bytes_key(data))


def printable(name: str) -> str:
    """`name` with bytes that are not UTF-8 escaped, so that JSON can hold it."""
    if name.isascii():
        return name  # the usual case, without a copy
    return name.encode("utf-8", "backslashreplace").decode()
