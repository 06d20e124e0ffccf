"""Show the stored images of every method, from `DIR/subsets`, as networks see them before augmentation."""

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fastdc.beton import BetonFile, Manifest, encode_jpeg, load_manifest, resize_short
from fastdc.beton.format import MODE_JPEG
from fastdc.common.errors import BetonError, FastDCError
from fastdc.common.keys import bytes_key
from fastdc.common.text import format_bytes, plain
from fastdc.report.row_texts import ipc_text
from fastdc.report.rows import Row
from fastdc.subsets.external_request import beton_key
from fastdc.sweep.store.results import Record

BUDGET = 8_000_000  # bytes of images on a page, before base64 makes them a third longer
CHOICES = ((10, 5), (10, 3), (6, 3), (4, 3), (4, 2), (3, 2), (2, 2), (2, 1), (1, 1))  # classes, images of each
LARGE = 64_000  # an image of more bytes is encoded again, smaller
SHOWN_SIDE = 256


class Picture(NamedTuple):
    """Image of the page: its data URI, a description, and its sides in pixels."""

    uri: str
    text: str
    width: int
    height: int


class Shown(NamedTuple):
    """Stored images of one method: number of the method, a caption, and the images of every class shown."""

    method: int
    caption: str
    strips: list[tuple[int, list[Picture]]]


class Shelf(NamedTuple):
    """Methods of one data set at one IPC and image size (px).

    `held_out` is a text for the share that the sweep held out, empty if none. `classes` holds number and name of the
    classes shown.
    """

    dataset: str
    ipc: str
    side: int
    held_out: str
    classes: list[tuple[int, str]]
    shown: list[Shown]
    notes: list[str]


class Found(NamedTuple):
    """Stored set that can be shown."""

    method: int
    name: str
    seed: int
    path: Path
    manifest: Manifest


class StoredSets:
    """Index of the stored sets in a sweep's workdir, listed once instead of once for each set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Files are named METHOD-ipcN-KEY.beton. Reversed, so that the first by name wins if several share a key.
        paths = sorted((folder / "subsets").glob("*-*.beton"), reverse=True)
        self._paths = {path.stem.rpartition("-")[2]: path for path in paths}

    def find(self, records: Iterable[Record]) -> tuple[Path, Manifest, int] | None:
        """Return the first stored set of these runs that exists, by seed: its beton, its manifest, its seed.

        Raises:
            FastDCError: the set exists, but is damaged.
        """
        for record in sorted(records, key=lambda each: int(each.label.get("seed", 0))):
            path = self._paths.get(str(record.label.get("subset", "")))
            if path is not None:
                return path, load_manifest(path), int(record.label.get("seed", 0))
            imported = _imported(record)
            if imported is not None:
                return *imported, int(record.label.get("seed", 0))
        return None


def _imported(record: Record) -> tuple[Path, Manifest] | None:
    """Return the imported beton that a run trained on, and its manifest; None if it is gone or has changed."""
    path = Path(str(record.label.get("file") or ""))
    if path.suffix != ".beton" or not path.exists():
        return None
    manifest = load_manifest(path)
    key = beton_key(str(record.label["method"]), manifest.content_hash)
    return (path, manifest) if key.startswith(str(record.label["subset"])) else None


def make_gallery(pairs: Sequence[tuple[Row, list[Record]]], methods: Sequence[str], sets: StoredSets) -> list[Shelf]:
    """Return shelves by data set, IPC and image size; their notes name missing and damaged sets.

    Args:
        pairs: from `group_rows`. methods: names on the page, by number. sets: stored sets of the sweep.
    """
    shelves: dict[tuple[str, str, int, str], tuple[dict[int, Found], dict[str, None]]] = {}
    for row, records in pairs:
        if row.ipc is None:
            continue
        held_out = "" if row.holdout is None else f", {100 * row.holdout:g} % held out"
        key = (plain(row.dataset), ipc_text(row), row.image_size, held_out)
        found, troubles = shelves.setdefault(key, ({}, {}))
        number = methods.index(plain(row.method))
        if number in found:  # a row of another protocol or network that used the same set
            continue
        try:
            subset = sets.find(records)
            if subset is not None:
                found[number] = Found(number, plain(row.method), subset[2], *subset[:2])
            elif row.n:
                troubles[f"{plain(row.method)}: not shown: its {_where(row)}"] = None
        except FastDCError as error:
            troubles[f"{plain(row.method)}: not shown: {_trouble(error, sets.folder)}"] = None
    every = [each for found, _ in shelves.values() for each in found.values()]
    classes, images = _extent(every)
    made = []
    left = BUDGET
    for key, (found, troubles) in shelves.items():
        ordered = sorted(found.values(), key=lambda each: each.method)
        shelf, used = _shelf(key, ordered, list(troubles), classes, images, left)
        left -= used
        if shelf.shown or shelf.notes:
            made.append(shelf)
    return made


def _where(row: Row) -> str:
    missing = "stored set is no longer in subsets/"
    return missing if row.external is None else f"file is gone or has changed ({plain(row.external)})"


def _trouble(error: FastDCError, folder: Path) -> str:
    """Return the error without the path of the sweep's folder, because pages are shared with other people."""
    return plain(str(error).replace(f"{folder}/", ""))


def _extent(found: Sequence[Found]) -> tuple[int, int]:
    """Return how many classes, and images of each, fit into the page."""
    for classes, images in CHOICES:
        total = 0.0
        for each in found:
            mean = min(LARGE, each.manifest.image_bytes / max(1, len(each.manifest.ids)))
            total += mean * sum(min(images, count) for count in each.manifest.counts[:classes])
        if total <= BUDGET:
            return classes, images
    return CHOICES[-1]


def _shelf(
    key: tuple[str, str, int, str], found: Sequence[Found], notes: list[str], classes: int, images: int, budget: int
) -> tuple[Shelf, int]:
    names = found[0].manifest.classes if found else ()
    chosen = sorted({round(index) for index in np.linspace(0, len(names) - 1, min(classes, len(names)))})
    shown, used = [], 0
    for each in found:
        try:
            strips, taken = _strips(each, chosen, images)
        except FastDCError as error:
            notes.append(f"{each.name}: not shown: {_trouble(error, each.path.parent.parent)}")
            continue
        if used + taken > budget:
            notes.append(f"{each.name}: not shown: the page is full")
            continue
        used += taken
        caption = (
            f"{len(each.manifest.ids):,} images, {format_bytes(each.manifest.image_bytes)}, subset seed {each.seed}"
        )
        shown.append(Shown(each.method, caption, strips))
    if len(chosen) < len(names):
        notes.append(f"{len(chosen)} of {len(names)} classes are shown")
    return Shelf(*key, [(label, plain(names[label])) for label in chosen], shown, notes), used


def _strips(found: Found, classes: Sequence[int], images: int) -> tuple[list[tuple[int, list[Picture]]], int]:
    """Return the first stored images of every class, and their total bytes.

    Raises:
        BetonError: an image is damaged, or the set was replaced after it was found.
    """
    strips, used = [], 0
    with BetonFile(found.path) as beton:
        if len(beton) != len(found.manifest.hashes):
            raise BetonError(f"{found.path}: was replaced just now; make the page again")
        for label in classes:
            pictures = []
            for index in np.flatnonzero(beton.labels == label)[:images]:
                kind, data, shape = _encoded(beton, int(index), found.manifest.hashes[int(index)])
                used += len(data)
                uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
                pictures.append(Picture(uri, plain(found.manifest.ids[int(index)])[:160], *shape))
            strips.append((label, pictures))
    return strips, used


def _encoded(beton: BetonFile, index: int, expected: str) -> tuple[str, bytes, tuple[int, int]]:
    """Return format, bytes and sides of a stored image: JPEG as stored, raw pixels as PNG, large ones reduced.

    Raises:
        BetonError: its hash differs from the manifest's.
    """
    data = bytes(beton.payload(index))
    if bytes_key(data) != expected:
        raise BetonError(f"{beton.path}: sample {index}: damaged; run the sweep again, which makes the set anew")
    shape = int(beton.widths[index]), int(beton.heights[index])
    if beton.modes[index] == MODE_JPEG and len(data) <= LARGE:
        return "jpeg", data, shape
    pixels = beton.decode(index)
    if min(shape) > SHOWN_SIDE:
        pixels = resize_short(pixels, SHOWN_SIDE)
        return "jpeg", encode_jpeg(pixels, 85), (pixels.shape[1], pixels.shape[0])
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    if buffer.tell() <= LARGE:
        return "png", buffer.getvalue(), shape
    return "jpeg", encode_jpeg(pixels, 90), shape
