"""Read images from shards of rows, parquet or Arrow files.

Samples are numbered in the order of the shards and their rows, as `datasets` numbers them. Their ids are SHARD:ROW
("data/train-00000-of-00007.parquet:12"), from which each can be found again; stored paths may be missing or repeated.

The module needs pyarrow (extra `hf`), imported on first use.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.sources.arrow_columns import Columns, find_columns
from fastdc.beton.sources.arrow_images import take_file, take_pixels
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.row_labels import NO_LABEL, RowLabels, name_rows, read_texts, sort_rows
from fastdc.beton.sources.shards import check_pointer
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.trees import Fetch
from fastdc.beton.texts import Texts, one_spelling
from fastdc.common.arrow import import_pyarrow
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line


class ShardFile(AbstractContextManager["ShardFile"]):
    """One open shard.

    Attributes:
        schema: its Arrow schema.
    """

    schema: Any

    @abstractmethod
    def read_column(self, name: str) -> Any:
        """Read a column of labels whole, as a chunked Arrow array."""

    @abstractmethod
    def read_images(self, columns: Columns) -> Iterator[Any]:
        """Yield Arrow arrays of images that cover all rows in turn, in memory that does not grow with the shard."""


@dataclass
class _Labels:
    """Labels of all shards read so far. A label given as a class name is stored as its index in `names`."""

    columns: Columns
    chunks: list[NDArray[np.int64]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)


class ShardedRows(ABC):
    """Shards of one split, opened and checked. Their labels are read at once, their images later.

    Args:
        source: a folder of shards, or one shard.
        shards: paths of the shards, relative to the folder; for a single file, its name.
        options: names of columns and classes. Without `classes`, those that the source keeps are taken or, without
            those, the numbers.

    Attributes:
        name: the source's name.
        contents: classes and rows. Rows with a missing or invalid label are included; reading one raises the reason.
        made: for the manifest: the columns, and the origin of the class names (`NamedRows.named`).

    Raises:
        SourceError: pyarrow is not installed; a shard is truncated, of another format, lacks a column or differs from
            the first; `classes` differ from the names that the source keeps; or no row has a usable label.
    """

    form: ClassVar[str]
    """Name of the file format, for messages."""

    def __init__(self, source: Path, shards: Sequence[str], options: SourceOptions) -> None:
        self.name = source.resolve().name
        self._source, self._shards, self._options = source, list(shards), options
        self._arrow = import_pyarrow(f"{source}: reading parquet or Arrow", SourceError)
        self._stamps: dict[int, tuple[int, int, int]] = {}
        self._numbers = {shard: number for number, shard in enumerate(self._shards)}
        found = self._scan()
        self._columns = found.columns
        self._starts = np.cumsum([0, *map(len, found.chunks)])
        codes, text = np.concatenate(found.chunks), found.columns.text
        texts = tuple(found.names)
        labels = read_texts(codes, texts, options.classes, source, counted=True) if text else RowLabels(codes, None)
        known, origin = self._known_names(found.columns)
        self._rows = name_rows(replace(labels, known=known, origin=origin), options.classes, source, self._id)
        ids = Texts.of(map(self._id, range(len(labels.codes))))
        self.contents = Contents("", self._rows.classes, ids, self._rows.labels, [], self._rows.empty)
        self.made = {"columns": [found.columns.image, found.columns.label], "class_names": self._rows.named}

    @abstractmethod
    def _open_file(self, path: Path) -> ShardFile:
        """Open a shard; Arrow's errors and OSError are reported by the caller."""

    def _known_names(self, columns: Columns) -> tuple[tuple[str, ...] | None, str]:
        """Return the names that the source keeps for numbered labels, and their origin."""
        return columns.names, "hub"

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`.

        Rows without a usable label come first, so that their errors appear early. The others follow in the order of the
        rows.

        Raises:
            SourceError: a shard is found to be damaged.
        """
        rows = np.fromiter(map(self._row, paths), np.int64)
        refused, order = sort_rows(rows, self._rows.labels, self._rows.reason)
        yield from refused
        wanted = rows[order]
        for shard, start in enumerate(self._starts[:-1].tolist()):
            first, last = np.searchsorted(wanted, [start, self._starts[shard + 1]]).tolist()
            if last > first:
                for number, fetch in self._fetch_shard(shard, (wanted[first:last] - start).tolist()):
                    yield int(order[first + number]), fetch

    def _fetch_shard(self, shard: int, wanted: list[int]) -> Iterator[tuple[int, Fetch]]:
        """Yield, for each of the rows `wanted` (sorted) of a shard, its index in `wanted` and a reader."""
        take = take_pixels if self._columns.pixels else take_file
        place, start = 0, 0
        for images in self._read_images(shard):
            end = start + len(images)
            while place < len(wanted) and wanted[place] < end:
                yield place, partial(take, images, wanted[place] - start)
                place += 1
            start = end
        if place < len(wanted):
            raise SourceError(f"{self._path(shard)}: ends after row {start}; it changed while it was read: run again")

    def _read_images(self, shard: int) -> Iterator[Any]:
        """Yield Arrow arrays of images that cover all rows of a shard."""
        done = 0
        try:
            with self._open(shard) as file:
                for images in file.read_images(self._columns):
                    yield images
                    done += len(images)
        except (self._arrow.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
            raise SourceError(
                f"{self._path(shard)}: damaged after row {done} ({one_line(error)}); get the shard again"
            ) from error

    def _scan(self) -> _Labels:
        """Check every shard, and read its labels."""
        found: _Labels | None = None
        for shard in range(len(self._shards)):
            with self._open(shard) as file:
                options = self._options
                columns = find_columns(file.schema, self._path(shard), options.image_column, options.label_column)
                found = found or _Labels(columns)
                self._check_same(shard, found.columns, columns)
                found.chunks.append(self._read_labels(shard, file, found))
        if found is None:
            raise SourceError(
                f"{self._source}: holds no {self.form} shards, expected some such as train-00000-of-00001"
            )
        return found

    def _open(self, shard: int) -> ShardFile:
        """Open a shard; it must still be the file first opened."""
        path = self._path(shard)
        try:
            stamp = self._stamps.setdefault(shard, _stamp(path))
            check_pointer(path)
            file = self._open_file(path)
            file.schema.names  # noqa: B018  decodes the names, which damage may have made invalid
            if _stamp(path) != stamp:  # compared after opening, so that no change goes unnoticed
                file.__exit__(None, None, None)
                raise SourceError(f"{path}: changed while it was read; run again when no process writes to it")
            return file
        except (self._arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"{path}: cannot be read as {self.form} ({one_line(error)}); it may be cut off: get it again"
            ) from error

    def _check_same(self, shard: int, first: Columns, columns: Columns) -> None:
        if columns[:-1] != first[:-1]:
            found = f"has images in {columns.leaf} and {'names' if columns.text else 'numbers'} in {columns.label}"
            other = f"{first.leaf} and {'names' if first.text else 'numbers'} in {first.label}"
            raise SourceError(f"{self._path(shard)}: {found}, {self._shards[0]} {other}; keep the shards of one set")
        if columns.names != first.names:
            raise SourceError(
                f"{self._path(shard)}: names other classes than {self._shards[0]}; keep the shards of one set"
            )

    def _read_labels(self, shard: int, file: ShardFile, found: _Labels) -> NDArray[np.int64]:
        """Return the labels of one shard [N]: `NO_LABEL` for nulls; class names become indices in `found.names`."""
        arrow = self._arrow
        try:
            column = file.read_column(found.columns.label)
            if not found.columns.text:
                column = column.cast(arrow.int64())
            else:
                coded = column.cast(arrow.string()).combine_chunks().dictionary_encode()
                spelled = map(one_spelling, coded.dictionary.to_pylist())
                places = [found.names.setdefault(name, len(found.names)) for name in spelled]
                column = arrow.array([*places, None], arrow.int64()).take(coded.indices)
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            where = f"{self._path(shard)}: column {found.columns.label!r}"
            raise SourceError(f"{where} cannot be read ({one_line(error)}); get the shard again") from error
        labels: NDArray[np.int64] = column.fill_null(NO_LABEL).to_numpy()
        return labels

    def _path(self, shard: int) -> Path:
        return self._source / self._shards[shard] if self._source.is_dir() else self._source

    def _id(self, row: int) -> str:
        shard = int(np.searchsorted(self._starts, row, "right")) - 1
        return f"{self._shards[shard]}:{row - self._starts[shard]}"

    def _row(self, path: str) -> int:
        shard, _, row = path.rpartition(":")
        return int(self._starts[self._numbers[shard]]) + int(row)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is replaced or rewritten: size, modification time, inode."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino
