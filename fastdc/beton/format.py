"""Define and check FFCV's `.beton` format, version 2, for files of two fields: `image` (RGB) and `label` (integer).

Layout, all little-endian:

    header            24 bytes: version, number of fields, page size, number of samples, start of the allocation table
    descriptors       2 x 1041 bytes: type id, name (16 bytes, zero padded), arguments (1024 bytes, all zero)
    metadata          num_samples x 24 bytes: mode, width, height, payload position, 3 bytes of padding, label
    payloads          from the next multiple of the page size; no payload crosses a page boundary; gaps are zero
    allocation table  to the end of the file: sample id, position, size, one row per payload

Source: ffcv 1.0.2, `types.py`, `writer.py`, `memory_allocator.py`, `fields/rgb_image.py`, `fields/basics.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import BetonError

VERSION = 2
MODE_JPEG, MODE_RAW = 0, 1
MIN_PAGE_SIZE = 1 << 21
DEFAULT_PAGE_SIZE = 1 << 23
# FFCV's process cache reads a page in one system call, and Linux moves at most 2 GiB - 4 KiB in one.
MAX_PAGE_SIZE = 1 << 30
MAX_SIDE = 65_535
MAX_LABEL = (1 << 22) - 1
"""Largest plausible label. A larger one counts as damage, because no image set has 4 million classes."""

# `align=True` inserts the padding that FFCV's tables have; an image's metadata is packed.
HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
DESCRIPTOR = np.dtype([("type_id", "<u1"), ("name", ("<u1", 16)), ("arguments", ("<u1", (1024,)))], align=True)
IMAGE_METADATA = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
METADATA = np.dtype([("image", IMAGE_METADATA), ("label", "<i8")], align=True)
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])

FIELDS = ((b"image", 2), (b"label", 1))
METADATA_START = HEADER.itemsize + len(FIELDS) * DESCRIPTOR.itemsize
MAX_PROBLEMS_PER_CHECK = 20


class Problem(NamedTuple):
    """One defect of a beton.

    Attributes:
        section: "header", "fields", "metadata", "allocation table", "payload", "padding" or "manifest".
        index: the sample concerned, or None.
        id: the sample's id in the manifest, or None.
        message: what was found and what was expected.
    """

    section: str
    index: int | None  # type: ignore[assignment]  # hides tuple.index, which is not needed here
    id: str | None
    message: str

    def __str__(self) -> str:
        sample = "" if self.index is None else f" of sample {self.index}"
        return f"{self.section}{sample}: {self.message}"


@dataclass(frozen=True)
class Structure:
    """Checked contents of a beton except its payloads; sizes and positions are in bytes.

    Attributes:
        page_size: FFCV's page size.
        file_bytes: length of the file.
        table_start: position of the allocation table.
        metadata: [N] of `METADATA`.
        allocations: [N] of `ALLOCATION`, sorted by sample id, so that row i describes sample i's payload.
    """

    page_size: int
    file_bytes: int
    table_start: int
    metadata: NDArray[Any]
    allocations: NDArray[Any]


def align_up(position: int, page_size: int) -> int:
    """Return the smallest multiple of `page_size` that is >= `position`."""
    return -(-position // page_size) * page_size


def as_bytes(table: NDArray[Any]) -> memoryview:
    """Return the memory of a contiguous table, to write or hash it without a copy."""
    return table.view(np.uint8).data


def make_preamble(num_samples: int, page_size: int, table_start: int) -> bytes:
    """Return header and field descriptors: the first `METADATA_START` bytes of a beton."""
    header = np.zeros(1, HEADER)
    header[0] = (VERSION, len(FIELDS), page_size, num_samples, table_start)
    descriptors = np.zeros(len(FIELDS), DESCRIPTOR)
    for row, (name, type_id) in zip(descriptors, FIELDS, strict=True):
        row["type_id"] = type_id
        row["name"][: len(name)] = np.frombuffer(name, np.uint8)
    return header.tobytes() + descriptors.tobytes()


def read_structure(handle: IO[bytes], path: Path) -> tuple[Structure | None, list[Problem]]:
    """Read and check everything in a beton except its payloads.

    The checks are vectorised: 1.28 million samples take well under a second.

    Args:
        handle: the open file.
        path: its name, for messages.

    Returns:
        The structure (None if the file is too damaged to infer it) and the problems found. Without problems, every
        payload lies inside the file, in one page and without overlap, and sides, modes, sizes and labels are plausible.

    Raises:
        BetonError: the file shrank while it was being read.
    """
    size = handle.seek(0, 2)
    if size < METADATA_START:
        message = f"the file has {size} bytes, expected at least {METADATA_START}; it is truncated or not a beton"
        return None, [Problem("header", None, None, message)]
    handle.seek(0)
    header = np.frombuffer(handle.read(HEADER.itemsize), HEADER)[0]
    problems = list(_check_header(header, size))
    if not problems:
        problems = list(_check_fields(np.frombuffer(handle.read(2 * DESCRIPTOR.itemsize), DESCRIPTOR)))
    if problems:
        return None, problems
    count, table_start = int(header["num_samples"]), int(header["alloc_table_ptr"])
    metadata = np.frombuffer(handle.read(count * METADATA.itemsize), METADATA)
    handle.seek(table_start)
    table = np.frombuffer(handle.read(count * ALLOCATION.itemsize), ALLOCATION)
    if len(metadata) != count or len(table) != count:
        raise BetonError(f"{path}: shrank while it was being read; wait until its writer has finished")
    return _check_samples(int(header["page_size"]), size, table_start, metadata, table)


def _check_header(header: Any, size: int) -> Iterator[Problem]:
    """Yield the header's problems. The caller reads later sections only if there are none."""

    def problem(message: str) -> Problem:
        return Problem("header", None, None, message)

    version, fields, page = int(header["version"]), int(header["num_fields"]), int(header["page_size"])
    count, table_start = int(header["num_samples"]), int(header["alloc_table_ptr"])
    if version != VERSION:
        yield problem(f"format version {version}, expected {VERSION}; not a beton, or written by another FFCV")
    elif fields != len(FIELDS):
        yield problem(f"{fields} fields, expected 2 (image, label); write it again with these two fields")
    elif page < MIN_PAGE_SIZE or page & (page - 1):
        yield problem(f"page size {page}, expected a power of two of at least {MIN_PAGE_SIZE}")
    elif table_start == 0:
        yield problem("no allocation table: the writer of this file was interrupted; write it again")
    elif count == 0:
        yield problem("holds no samples, expected at least one")
    elif not METADATA_START + count * METADATA.itemsize <= table_start <= size:
        yield problem(
            f"allocation table at byte {table_start} with {count} samples in a file of {size} bytes; "
            "the file is truncated or damaged"
        )
    elif size - table_start != count * ALLOCATION.itemsize:
        found = (size - table_start) / ALLOCATION.itemsize
        yield Problem(
            "allocation table",
            None,
            None,
            f"{found:.6g} rows, expected {count}, one per sample; the file is truncated, damaged or has bytes appended",
        )


def _check_fields(descriptors: NDArray[Any]) -> Iterator[Problem]:
    for number, (row, (name, type_id)) in enumerate(zip(descriptors, FIELDS, strict=True)):
        found_name, found_type = row["name"].tobytes().rstrip(b"\0"), int(row["type_id"])
        if (found_name, found_type) != (name, type_id):
            found = f"{found_name.decode('ascii', 'backslashreplace')!r} of type {found_type}"
            yield Problem(
                "fields", None, None, f"field {number} is {found}, expected {name.decode()!r} of type {type_id}"
            )


def _check_samples(
    page_size: int, size: int, table_start: int, metadata: NDArray[Any], table: NDArray[Any]
) -> tuple[Structure | None, list[Problem]]:
    """Check metadata and allocation table against each other and against the file."""
    count = len(metadata)
    samples = table["sample_id"]
    if not np.array_equal(samples, np.arange(count, dtype=np.uint64)):  # FFCV lists payloads in its workers' order
        order = np.argsort(samples, kind="stable")
        table = table[order]
        if not np.array_equal(table["sample_id"], np.arange(count, dtype=np.uint64)):
            message = f"its rows do not name each of the {count} samples exactly once"
            return None, [Problem("allocation table", None, None, message)]
    structure = Structure(page_size, size, table_start, metadata, table)
    return structure, [*_check_allocations(structure), *_check_metadata(structure)]


def _check_allocations(structure: Structure) -> Iterator[Problem]:
    table, section = structure.allocations, "allocation table"
    ptr, sizes = table["ptr"], table["size"]
    first, last = np.uint64(METADATA_START + structure.metadata.nbytes), np.uint64(structure.table_start)
    # The columns are unsigned: `ptr + sizes > last` could wrap around, and so could `last - ptr`.
    outside = (ptr < first) | (ptr > last) | (sizes > last - np.minimum(ptr, last)) | (sizes == 0)
    yield from report(section, outside, lambda i: f"payload of {sizes[i]} bytes at byte {ptr[i]} is not in the file")
    if outside.any():
        return
    page = np.uint64(structure.page_size)
    crossing = ptr // page != (ptr + sizes - np.uint64(1)) // page
    yield from report(section, crossing, lambda i: f"payload at byte {ptr[i]} crosses a page of {page} bytes")
    order = np.argsort(ptr, kind="stable") if np.any(ptr[1:] < ptr[:-1]) else np.arange(len(ptr))
    overlap = np.zeros(len(ptr), bool)
    overlap[order[1:]] = (ptr + sizes)[order[:-1]] > ptr[order[1:]]
    yield from report(section, overlap, lambda i: f"payload at byte {ptr[i]} overlaps the one before it")


def _check_metadata(structure: Structure) -> Iterator[Problem]:
    section, images, labels = "metadata", structure.metadata["image"], structure.metadata["label"]
    mode, height, width = images["mode"], images["height"].astype(np.uint64), images["width"].astype(np.uint64)
    sizes, ptr = structure.allocations["size"], structure.allocations["ptr"]
    yield from report(section, mode > MODE_RAW, lambda i: f"image mode {mode[i]}, expected 0 (JPEG) or 1 (raw)")
    flat = (height == 0) | (width == 0)
    yield from report(section, flat, lambda i: f"image of {height[i]} x {width[i]} pixels")
    misplaced = images["data_ptr"] != ptr
    yield from report(
        section, misplaced, lambda i: f"payload at byte {images['data_ptr'][i]}, the allocation table has {ptr[i]}"
    )
    wrong = (mode == MODE_RAW) & (sizes != height * width * np.uint64(3))
    yield from report(
        section, wrong, lambda i: f"raw image of {height[i]} x {width[i]} pixels in {sizes[i]} bytes, expected h*w*3"
    )
    nonsense = (labels < 0) | (labels > MAX_LABEL)
    yield from report(section, nonsense, lambda i: f"label {labels[i]}, expected 0..{MAX_LABEL}")


def report(section: str, bad: NDArray[np.bool_], message: Any) -> Iterator[Problem]:
    """Yield a `Problem` per true entry of `bad` [N], up to `MAX_PROBLEMS_PER_CHECK`, then one that counts the rest."""
    indices = np.flatnonzero(bad)
    for index in indices[:MAX_PROBLEMS_PER_CHECK]:
        yield Problem(section, int(index), None, message(index))
    if len(indices) > MAX_PROBLEMS_PER_CHECK:
        rest = len(indices) - MAX_PROBLEMS_PER_CHECK
        yield Problem(section, None, None, f"and {rest} more samples with the same problem")
