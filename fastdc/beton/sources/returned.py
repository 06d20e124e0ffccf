"""Recognise an exported set in any kind of source, and bring its images back to the order and classes they had."""

import os
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.exported import RECORD, Exported, parse_record
from fastdc.beton.sources.archive_tree import DAMAGE, ArchiveTree
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.npz_arrays import open_npz
from fastdc.beton.sources.source import Opened
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.trees import FolderTree, check_size, join
from fastdc.beton.texts import Texts, one_spelling
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message
from fastdc.common.text import one_line

_NUMBERED = re.compile(r"(?:.*/)?(\d{1,18})(?:\.\w+)?")
"""Id of an image whose file is named by the number of its sample."""
_SHARDS = (".parquet", ".tar")
_OTHERWISE = f"or remove {RECORD} to write the images as any others"


def find_record(source: Path) -> Exported | None:
    """Return the record of an exported set; None if `source` is not one.

    Raises:
        ManifestError: the record is damaged, or of a newer version.
        SourceError: `source` is one shard of an exported set, or a damaged archive of arrays.
    """
    if source.is_dir():
        return parse_record((source / RECORD).read_bytes(), source / RECORD) if (source / RECORD).is_file() else None
    if source.suffix.lower() in _SHARDS and (home := _export_around(source)):
        raise SourceError(f"{source}: is a part of an exported set; give its folder {home}, {_OTHERWISE}")
    data = _read_member(source) if source.suffix.lower() == ".npz" and source.is_file() else None
    return None if data is None else parse_record(data, source / RECORD)


def _export_around(shard: Path) -> Path | None:
    folder = shard.absolute().parent
    homes = (folder, folder.parent) if folder.name == "data" else (folder,)
    return next((home for home in homes if (home / RECORD).is_file()), None)


def _read_member(path: Path) -> bytes | None:
    with open_npz(path) as archive:
        if RECORD not in archive.namelist():
            return None
        try:
            check_size(archive.getinfo(RECORD).file_size)
            return archive.read(RECORD)
        except (SourceError, RuntimeError, *DAMAGE) as error:  # RuntimeError: encrypted
            raise SourceError(f"{path}: its {RECORD} cannot be read ({one_line(error)}); get the file again") from error


def find_inner_record(opened: Opened) -> Exported | None:
    """Return the record beside the class folders of an opened folder or archive; None if there is none.

    Raises:
        ManifestError: the record is damaged, or of a newer version.
        SourceError: it cannot be read.
    """
    files, root = opened.files, opened.contents.root
    if opened.exported is not None or not isinstance(files, FolderTree | ArchiveTree):
        return None
    for folder in (root, os.path.dirname(root)):
        if RECORD in files.list_folder(folder).files:
            ((_, fetch),) = files.fetch_all([join(folder, RECORD)])
            return parse_record(fetch(), opened.path / folder / RECORD)
    return None


def exported_options(path: Path, record: Exported, options: SourceOptions) -> SourceOptions:
    """Return the options that open an exported set.

    Raises:
        SourceError: an option would change the set.
    """
    own = SourceOptions(split=options.split or record.split, allow_missing_classes=True)
    same = replace(options, split=own.split, allow_missing_classes=True)
    for name in (item.name for item in fields(own)):
        if getattr(same, name) != getattr(own, name):
            flag = f"--{name.replace('_', '-')}"
            raise SourceError(
                f"{path}: is an export of fastdc, which is restored unchanged; leave {flag} out, {_OTHERWISE}"
            )
    return own


def bring_back(opened: Opened, record: Exported) -> Opened:
    """Return an opened exported set with the order of its samples, the classes and the origin that it had.

    Raises:
        SourceError: images are missing or were added, or a class folder was renamed.
    """
    log_message(
        f"note: {opened.path}: is an export of fastdc; its order, classes, hints and origin come back from {RECORD}"
    )
    manifest, found = record.manifest, opened.contents
    order = _order(found.ids, record, opened.path)
    labels = _labels(found, record, opened.path)[order]
    ids = Texts.of(found.ids[place] for place in order.tolist())
    contents = Contents(found.root, manifest.classes, ids, labels, [], order=manifest.order or "own")
    return opened._replace(
        contents=contents, dataset=manifest.dataset, split=manifest.split, made=manifest.made, exported=manifest
    )


def _order(found: Texts, record: Exported, path: Path) -> NDArray[np.int64]:
    """Return the places in the source of samples 0, 1, ...: as they are, or in folders by the numbers of the files."""
    known = record.manifest.ids
    if record.folders is None:
        if len(found) != len(known):
            raise SourceError(
                f"{path}: holds {len(found):,} images, of {len(known):,} that were exported; export the set again, "
                f"{_OTHERWISE}"
            )
        return np.arange(len(known))
    matches = map(_NUMBERED.fullmatch, found)
    numbers = np.fromiter((int(match[1]) if match else -1 for match in matches), np.int64, len(found))
    lost = np.setdiff1d(np.arange(len(known)), numbers).tolist()
    if lost:
        raise SourceError(
            f"{path}: {len(lost):,} of {len(known):,} exported images are missing, the first is number {lost[0]} "
            f"({known[lost[0]]}); put them back, {_OTHERWISE}"
        )
    extra = np.ones(len(found), bool)
    extra[np.unique(numbers, return_index=True)[1]] = False
    places = np.flatnonzero(extra | (numbers < 0) | (numbers >= len(known))).tolist()
    if places:
        raise SourceError(
            f"{path}/{found[places[0]]}: was not exported; {len(places):,} images were added: move them out, "
            f"{_OTHERWISE}"
        )
    return np.argsort(numbers, kind="stable")


def _labels(contents: Contents, record: Exported, path: Path) -> NDArray[np.int32]:
    """Return the class of every image of the source, as the exported set numbers them."""
    if record.folders is None:
        return contents.labels
    known = {one_spelling(name): label for label, name in enumerate(record.folders)}
    strange = sorted(set(contents.classes) - set(known))
    if strange:
        raise SourceError(f"{path}/{strange[0]}: is not a class folder of the export; name it as it was, {_OTHERWISE}")
    table = np.array([known[name] for name in contents.classes], np.int32)
    return table[contents.labels]
