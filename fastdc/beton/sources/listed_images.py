"""Find the images of a folder that a table lists, with their classes.

Samples are in the order of the table's rows; their ids are the paths in it.
"""

import posixpath
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.readme_names import readme_names
from fastdc.beton.sources.row_labels import NO_LABEL, RowLabels, name_rows, read_texts
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.splits import SPLIT_NAMES, choose_split, holds_images
from fastdc.beton.sources.tables import TABLE_SUFFIXES, Row, open_table
from fastdc.beton.sources.trees import Fetch, FolderTree, is_image, join, read_regular_file
from fastdc.beton.texts import Texts, one_spelling
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message

TABLES = ("labels.csv", "metadata.csv", "metadata.jsonl")


@dataclass
class _Taken:
    """What is kept of the rows read so far: 24 bytes for each, besides its image's path.

    Attributes:
        texts: the index of each different label.
        codes: for each row, the index of its label; `NO_LABEL` for none.
        lines: its line in the table.
        hashes: hash of its image's path.
    """

    texts: dict[str, int] = field(default_factory=dict)
    codes: "array[int]" = field(default_factory=lambda: array("q"))
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    hashes: "array[int]" = field(default_factory=lambda: array("q"))

    def take(self, row: Row) -> str:
        """Record a row, and return its image's path."""
        label = one_spelling(row.label)
        self.codes.append(self.texts.setdefault(label, len(self.texts)) if label else NO_LABEL)
        self.lines.append(row.line)
        self.hashes.append(hash(row.file))
        return row.file


class ListedImages:
    """Images that a table lists. The table is read at once, the images later.

    Args:
        table: the table; the paths in it are relative to its folder.
        options: names of columns and classes.

    Attributes:
        name: name of the folder.
        contents: classes and images. Rows with a missing or invalid label are included; reading one raises the reason.
        made: for the manifest: the table, its columns, and the origin of the class names.

    Raises:
        SourceError: see `open_table` and `name_rows`; also if two rows list one image.
    """

    def __init__(self, table: Path, options: SourceOptions) -> None:
        self._table, self._folder = table, table.parent
        self.name = self._folder.resolve().name
        opened, taken = open_table(table, options), _Taken()
        ids = Texts.of(map(taken.take, opened.rows))
        _check_repeated(table, ids, taken)
        labels = self._read_labels(taken, opened.columns[1], options.classes)
        rows = name_rows(labels, options.classes, table, lambda row: f"line {taken.lines[row]}")
        self._refused = {ids[row]: rows.reason(row) for row in np.flatnonzero(rows.labels < 0).tolist()}
        _note_unlisted(table, ids, taken)
        self.contents = Contents("", rows.classes, ids, rows.labels, [], rows.empty)
        self.made = {"table": table.name, "columns": list(opened.columns), "class_names": rows.named}

    def _read_labels(self, taken: "_Taken", column: str, given: Sequence[str] | None) -> RowLabels:
        """Return the labels; numbers have the names of a README beside the table, if there are any."""
        labels = read_texts(np.array(taken.codes, np.int64), tuple(taken.texts), given, self._table)
        if labels.texts is not None:
            return labels
        return replace(labels, known=readme_names(self._folder, self._table.name, column), origin="README")

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`. The order is that of `paths`."""
        for number, path in enumerate(paths):
            yield number, partial(self._read, path)

    def _read(self, path: str) -> bytes:
        if path in self._refused:
            raise SourceError(f"{self._refused[path]} (in {self._table.name})")
        try:
            return read_regular_file(str(self._folder / path))
        except FileNotFoundError as error:
            raise SourceError(f"no such image, though {self._table.name} lists it") from error


def _check_repeated(table: Path, ids: Texts, taken: _Taken) -> None:
    hashes = np.array(taken.hashes, np.int64)
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    for row in sorted(first[counts > 1].tolist()):
        same = [other for other in np.flatnonzero(hashes == hashes[row]).tolist() if ids[other] == ids[row]]
        if len(same) > 1:
            lines = f"lines {taken.lines[same[0]]} and {taken.lines[same[1]]}"
            raise SourceError(f"{table}: {lines} both list {ids[row]}; keep one line per image")


def _note_unlisted(table: Path, ids: Texts, taken: _Taken) -> None:
    """Report images that are beside listed ones, and that no row lists."""
    tree, listed, unlisted = FolderTree(table.parent), np.unique(np.array(taken.hashes, np.int64)), []
    for folder in sorted(set(map(posixpath.dirname, ids))):
        if (table.parent / folder).is_dir():
            names = [join(folder, name) for name in tree.list_folder(folder).files if is_image(name)]
            known = np.isin(np.fromiter(map(hash, names), np.int64, len(names)), listed)
            unlisted += [names[place] for place in np.flatnonzero(~known).tolist()]
    if unlisted:
        found = f"images without a row in {table.name}: {len(unlisted)}, such as {min(unlisted)}"
        log_message(f"note: {table.parent}: {found}; they are left out")


def find_table(source: Path, split: str | None) -> Path:
    """Return the table of a source: a table itself, or a folder with one, or with one in each folder of a split.

    Raises:
        SourceError: there are several; or `split` is missing, unknown or not applicable.
    """
    if source.is_file() or tables_in(source):
        if split is not None:
            raise SourceError(f"{source}: lists one set without splits, but {split!r} was requested; omit --split")
        return source if source.is_file() else _only_table(source)
    names = [path.name for path in _split_folders(source)]
    return _only_table(source / choose_split(names, split, source))


def _only_table(folder: Path) -> Path:
    tables = tables_in(folder)
    if len(tables) > 1:
        named = " and ".join(path.name for path in tables)
        raise SourceError(f"{folder}: holds {named}; give one of them as the source")
    return tables[0]


def tables_in(folder: Path) -> list[Path]:
    """Return the tables in a folder that may list its images."""
    return [folder / name for name in TABLES if (folder / name).is_file()]


def is_listed(source: Path) -> bool:
    """Return whether a source is a table, or a folder whose images a table lists.

    A table above two or more folders of images, with no image beside these, belongs to an image folder.
    """
    if not source.is_dir():
        return source.suffix.lower() in TABLE_SUFFIXES and source.is_file()
    try:
        return _is_listed(source) or any(map(_is_listed, _split_folders(source)))
    except (OSError, SourceError):  # let the reader of image folders report an unreadable folder
        return False


def _is_listed(folder: Path) -> bool:
    if not tables_in(folder):
        return False
    tree, path = FolderTree(folder), ""
    while True:
        listing = tree.list_folder(path)
        holding = [name for name in listing.folders if holds_images(tree, join(path, name))]
        if any(map(is_image, listing.files)) or not holding:
            return True
        if len(holding) > 1:
            return False
        path = join(path, holding[0])


def _split_folders(source: Path) -> list[Path]:
    """Return the folders named like splits that hold a table; none if `source` itself holds one."""
    if tables_in(source):
        return []
    return sorted(path for path in source.iterdir() if path.name.lower() in SPLIT_NAMES and tables_in(path))
