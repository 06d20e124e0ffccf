"""Read a bundle and check that it is whole: its index, and size and hash of every file in it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fastdc.common.errors import BundleError, StoreError
from fastdc.common.files import check_file
from fastdc.common.settings import first_problem
from fastdc.common.text import plain
from fastdc.sweep.bundle.bundle_archive import Member, read_archive
from fastdc.sweep.bundle.bundle_index import FORMAT, INDEX, ROWS, FileFacts, Index
from fastdc.sweep.store.row_lines import Row, parse_rows, record_of

MAX_INDEX, MAX_YAML, MAX_ROWS = 64 << 20, 1 << 20, 1 << 30
"""Most bytes of the files that are held in memory; the others are only hashed."""
LABELS = ("method", "ipc", "protocol", "augment", "arch", "seed", "group")
"""Values of a row's label that this version reads."""


@dataclass(frozen=True)
class Bundle:
    """Bundle whose files are all as its index says.

    Attributes:
        path: the archive.
        index: its index.
        rows: its rows.
        yaml: text of each sweep by the name of its file.
    """

    path: Path
    index: Index
    rows: list[Row]
    yaml: dict[str, bytes]


def load_bundle(path: Path) -> Bundle:
    """Read a bundle in one pass, without unpacking it to disk.

    Raises:
        BundleError: it is damaged, unsafe, incomplete, or of a newer version.
        StoreError: a row in it is no row.
    """
    check_file(path, "a bundle that fastdc bundle wrote", BundleError)
    members = read_archive(path)
    first = next(members, None)
    if first is None or first.name != INDEX:
        found = "nothing" if first is None else f"'{plain(first.name)[:80]}'"
        raise BundleError(f"{path}: is not a bundle: its first file is {found}, expected {INDEX}")
    index = _index(path, _read(path, first, MAX_INDEX)[1])
    kept = {ROWS: MAX_ROWS, **{sweep.file: MAX_YAML for sweep in index.sweeps}}
    texts: dict[str, bytes] = {}
    seen = set()
    for member in members:
        seen.add(member.name)
        facts = index.files.get(member.name)
        if facts is None:
            raise BundleError(f"{path}: holds '{plain(member.name)[:80]}', which {INDEX} does not list; do not use it")
        _check(path, member.name, member.size, facts)
        digest, text = _read(path, member, kept.get(member.name))
        if digest != facts.sha256:
            raise BundleError(
                f"{path}: {plain(member.name)[:80]}: SHA-256 {digest[:12]}, expected {facts.sha256[:12]}; "
                "it was changed after it was packed"
            )
        if member.name in kept:
            texts[member.name] = text
    return _complete(path, index, texts, seen)


def _complete(path: Path, index: Index, texts: dict[str, bytes], seen: set[str]) -> Bundle:
    listed = {*index.files, ROWS, *(sweep.file for sweep in index.sweeps)}
    lost = sorted({*listed, *(each.file for each in index.external if each.file is not None)} - seen)
    if lost:
        raise BundleError(
            f"{path}: lacks {plain(lost[0])[:80]} ({len(lost)} of {len(index.files)} files); get it again"
        )
    try:
        rows = parse_rows(path / ROWS, texts.pop(ROWS).decode())
        for row in rows:
            _check_row(path, row)
    except UnicodeDecodeError as error:
        raise StoreError(f"{path / ROWS}: not UTF-8 ({error}); get the bundle again") from error
    return Bundle(path, index, rows, texts)


def _check_row(path: Path, row: Row) -> None:
    """Refuse a row that lacks what a second training is compared with."""
    try:
        label, made, curve = row["label"], row["provenance"] or {}, row["detail"].get("curve", [])
        summary = row["summary"] if record_of(row).state == "done" else {"top1": 0.0}
        for part in ({name: label[name] for name in LABELS}, summary, row["detail"], made, *curve):
            _mapping(part)
        for part in (made.get("subset"), made.get("libraries")):
            _mapping(part or {})
        for number in (summary["top1"], made.get("seconds") or 0.0, *(entry["epoch"] for entry in curve)):
            float(number)
        hash(row["key"])
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        where = f"{path / ROWS}: run {plain(str(row['key']))[:40]}"
        raise StoreError(f"{where}: is not a row ({type(error).__name__}: {error}); get the bundle again") from error


def _mapping(value: Any) -> None:
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} for a mapping")


def _check(path: Path, name: str, size: int, facts: FileFacts) -> None:
    if size != facts.bytes:
        raise BundleError(f"{path}: {plain(name)[:80]}: {size:,} bytes, expected {facts.bytes:,}; get it again")


def _read(path: Path, member: Member, most: int | None) -> tuple[str, bytes]:
    """Return the SHA-256 of a file and, if `most` bytes of it may be held, its content."""
    if most is not None and member.size > most:
        shown = f"{plain(member.name)[:80]}: {member.size:,} bytes"
        raise BundleError(f"{path}: {shown}, expected at most {most:,}; do not use it")
    digest, held = hashlib.sha256(), list[bytes]()
    for piece in member.pieces:
        digest.update(piece)
        if most is not None:
            held.append(piece)
    return digest.hexdigest(), b"".join(held)


def _index(path: Path, data: bytes) -> Index:
    try:
        values: Any = json.loads(data)
        version = values["format"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise BundleError(
            f"{path}: {INDEX}: is not the index of a bundle ({type(error).__name__}); get it again"
        ) from error
    if isinstance(version, int) and version > FORMAT:
        raise BundleError(f"{path}: has format {version}, this fastdc reads up to {FORMAT}; update fastdc")
    try:
        return Index.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(f"{path}: {INDEX}: {plain(first_problem(error))[:200]}; get it again") from error
