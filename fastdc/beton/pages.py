"""Write the pages of a `.beton`, and the tables around them."""

import hashlib
import os
import struct
import tempfile
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
    Structure,
    align_up,
    as_bytes,
    make_preamble,
)
from fastdc.beton.output_pair import explain_errors
from fastdc.beton.positioned_io import read_range, start_writeback, write_all
from fastdc.beton.texts import Texts, hex_texts
from fastdc.common.errors import SourceError

DIGEST_BYTES = 16
_METADATA_ROW, _ALLOCATION_ROW = struct.Struct("<BHHQ3xq"), struct.Struct("<QQQ")  # one row of METADATA, of ALLOCATION
_GATHER, _GATHER_BYTES = 256, 4 << 20  # payloads, or bytes of them, that are gathered for one system call
_EARLY_BYTES = 8 << 20  # writeback starts once so many bytes have been written


class Payload(NamedTuple):
    """Image as it will be stored.

    Attributes:
        data: JPEG file or raw pixels. Only `bytes` may wait to be written; the owner of a view may change its pixels.
        mode: `MODE_JPEG` or `MODE_RAW`.
        height, width: pixels.
        digest: `hash_payload` of `data`.
        png_bytes: for raw pixels, the size of their PNG, which counts as the image's size; None counts the payload
            itself.
    """

    data: bytes | memoryview
    mode: int
    height: int
    width: int
    digest: bytes
    png_bytes: int | None = None


def jpeg_payload(data: bytes, height: int, width: int, sha256: bytes | None = None) -> Payload:
    """Return the payload of a JPEG file; `sha256` is its hash if it is known."""
    return Payload(data, MODE_JPEG, height, width, hash_payload(data) if sha256 is None else sha256[:DIGEST_BYTES])


def hash_payload(data: bytes | memoryview) -> bytes:
    """Return the first `DIGEST_BYTES` of the SHA-256 of `data`: `bytes_key` before it is made readable."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


class BetonWriter:
    """Writer of payloads into FFCV's pages, one after another, and of the tables around them at the end.

    A payload that does not fit into the rest of a page opens the next one, as in FFCV. If it fits no page at all, or if
    the table in front of the first page is full, everything written so far is moved.

    Small payloads are gathered and written by one system call, because a call for each costs more than copying it.

    Args:
        handle: an empty file, open for reading and writing.
        out: the file's final name; used in messages, and its folder for temporary files.
        capacity: expected number of samples, if known; it only saves the move.

    Attributes:
        image_bytes: sum of the sizes that the images so far count with.
    """

    def __init__(self, handle: IO[bytes], out: Path, capacity: int = 0) -> None:
        self._descriptor = handle.fileno()
        self._out = out
        self._page_size = DEFAULT_PAGE_SIZE
        self._metadata_end = METADATA_START + capacity * METADATA.itemsize
        self._position = self._start = align_up(self._metadata_end, self._page_size)
        self._room = self._count_room()
        self._written = self._started = self._position  # ends of what is in the file, and of what writeback covers
        self._waiting: list[bytes | memoryview] = []  # they belong between _written and _position
        self._count = self.image_bytes = 0
        # All that is kept of each sample: 64 bytes in the file's own layout, in the order of writing.
        self._metadata_rows, self._allocation_rows, self._digests = bytearray(), bytearray(), bytearray()

    def append(self, payload: Payload, label: int, sample_id: int) -> None:
        """Store the payload of sample `sample_id`. Ids may come in any order, but must be 0..N-1 in the end.

        Raises:
            SourceError: the image has a side above 65,535 pixels or needs more than the largest page (1 GiB).
            OutputError: the disk is full or fails.
        """
        data, mode, height, width, digest, counted = payload
        size = len(data)
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise SourceError(f"image of {height} x {width} pixels; the format holds 1..{MAX_SIDE}")
        if size > MAX_PAGE_SIZE:
            raise SourceError(f"image of {size} bytes as stored; the format holds at most {MAX_PAGE_SIZE}")
        self._count += 1
        if size > self._page_size or self._count > self._room:
            with explain_errors(self._out):
                # Doubling the capacity keeps the number of moves logarithmic.
                self._relocate(max(self._page_size, 1 << (size - 1).bit_length()), 2 * self._count)
        pointer = self._place(data, size)
        self._metadata_rows += _METADATA_ROW.pack(mode, width, height, pointer, label)
        self._allocation_rows += _ALLOCATION_ROW.pack(sample_id, pointer, size)
        self._digests += digest
        self.image_bytes += size if counted is None else counted

    def _place(self, data: bytes | memoryview, size: int) -> int:
        """Assign `data` the next position at which it fits one page.

        Pixels that their owner may change are written at once; other data may wait.
        """
        left = -self._position % self._page_size or self._page_size
        if size > left:
            self._flush()
            # The skipped rest of the page becomes a hole in the file, which reads as zeros.
            self._position += left
            self._written = self._position
        self._position += size
        self._waiting.append(data)
        full = len(self._waiting) >= _GATHER or self._position - self._written >= _GATHER_BYTES
        if full or not isinstance(data, bytes):
            self._flush()
        return self._position - size

    def _flush(self) -> None:
        with explain_errors(self._out):
            write_all(self._descriptor, self._waiting, self._written)
        self._waiting.clear()
        self._written = self._position
        if self._written - self._started >= _EARLY_BYTES:
            start_writeback(self._descriptor, self._started, self._written)
            self._started = self._written

    def _count_room(self) -> int:
        """Return how many samples' metadata fit in front of the first page."""
        return (self._start - METADATA_START) // METADATA.itemsize

    def _relocate(self, page_size: int, capacity: int) -> None:
        """Move the payloads to the layout of a larger page size, or behind a larger metadata table."""
        self._flush()
        metadata, allocations = self._tables()
        sizes = allocations["size"].tolist()
        with tempfile.TemporaryFile(dir=self._out.parent) as spare:
            for pointer, size in zip(allocations["ptr"].tolist(), sizes, strict=True):
                spare.write(read_range(self._descriptor, pointer, size))
            os.ftruncate(self._descriptor, 0)  # the gaps of the new layout must read as zeros
            spare.seek(0)
            self._page_size = page_size
            self._metadata_end = max(self._metadata_end, METADATA_START + capacity * METADATA.itemsize)
            self._position = self._start = align_up(self._metadata_end, page_size)
            self._written = self._started = self._position
            self._room = self._count_room()
            allocations["ptr"] = [self._place(spare.read(size), size) for size in sizes]
        metadata["image"]["data_ptr"] = allocations["ptr"]

    def _tables(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return metadata and allocations so far [N], in the order of writing.

        They are views, not copies: a bytearray cannot grow while one exists, so release them before `append`.
        """
        return np.frombuffer(self._metadata_rows, METADATA), np.frombuffer(self._allocation_rows, ALLOCATION)

    def renumber(self) -> NDArray[np.int64]:
        """Close the gaps left by skipped samples: of the ids used so far, sorted, the i-th becomes i.

        Returns:
            The ids that were used, sorted [N].
        """
        allocations = self._tables()[1]
        used = np.sort(allocations["sample_id"].astype(np.int64))
        allocations["sample_id"] = np.searchsorted(used, allocations["sample_id"])
        return used

    def count_labels(self, classes: int) -> NDArray[np.int64]:
        """Return the number of samples stored so far per label 0..classes-1."""
        counts: NDArray[np.int64] = np.bincount(self._tables()[0]["label"], minlength=classes)
        return counts

    def finish(self) -> tuple[Structure, Texts]:
        """Write allocation table, metadata and header. The file is then complete, but not yet fsynced.

        Returns:
            The structure, and the hex hash of every payload, both in sample order.
        """
        self._flush()
        metadata, table = self._tables()
        digests = np.frombuffer(self._digests, f"V{DIGEST_BYTES}")
        allocations, ids = table, table["sample_id"]
        if np.any(ids[1:] < ids[:-1]):  # samples of a compressed archive come in the archive's order
            order = np.argsort(ids)
            metadata, allocations, digests = metadata.take(order), table.take(order), digests[order]
        preamble = make_preamble(len(metadata), self._page_size, self._position)
        with explain_errors(self._out):
            write_all(self._descriptor, [as_bytes(table)], self._position)
            # The header comes last: without it, an interrupted file is not taken for a beton.
            write_all(self._descriptor, [preamble, as_bytes(metadata)], 0)
        structure = Structure(self._page_size, self._position + table.nbytes, self._position, metadata, allocations)
        return structure, hex_texts(digests.view(np.uint8).data, DIGEST_BYTES)
