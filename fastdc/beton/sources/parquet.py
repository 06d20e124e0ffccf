"""Read images from parquet shards, the format of most image sets and compressed sets on the Hugging Face hub.

Samples are numbered in the order of the shards and their rows, as `datasets` numbers them. Their ids are SHARD:ROW
("data/train-00000-of-00007.parquet:12"), from which each can be found again; stored paths may be missing or repeated.

Images are read as a stream of pages, which hold at most a few thousand rows. Memory therefore does not grow with the
row groups, of which some files have only one. The module needs pyarrow (`fastdc[hf]`), imported on first use.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.sources.class_folders import BY_POSITION, Contents
from fastdc.beton.sources.parquet_columns import Columns, column_bytes, find_columns
from fastdc.beton.sources.shards import find_shards
from fastdc.beton.sources.trees import Fetch, check_size
from fastdc.beton.texts import Texts, one_spelling
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message
from fastdc.common.text import one_line

_NO_LABEL = int(np.iinfo(np.int64).min)
_BATCH_BYTES, _MAX_BATCH = 8 << 20, 1024
_MIN_CLASSES = 1000
"""Labels without names may range up to here, even if there are fewer images."""


@dataclass
class _Labels:
    """Labels of all shards read so far. A label given as a class name is stored as its index in `names`."""

    columns: Columns
    chunks: list[NDArray[np.int64]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)


class ParquetShards:
    """Shards of one split, opened and checked. Their labels are read at once, their images later.

    Args:
        source: a folder of shards, or one shard.
        split: see `find_shards`.
        classes: names of classes 0, 1, ...; None takes the hub's own names or, without those, the numbers.

    Attributes:
        name: the source's name.
        contents: classes and rows. Rows with a missing or invalid label are included; reading one raises the reason.
        made: for the manifest: the columns, and the origin of the class names ("hub", "label column", "numbers",
            "given", or "given, by position" if the hub names the classes in other words).

    Raises:
        SourceError: pyarrow is not installed; a shard is truncated, not parquet, lacks a column or differs from the
            first; `classes` differ from the hub's; or no row has a usable label. See also `find_shards`.
    """

    def __init__(self, source: Path, split: str | None, classes: Sequence[str] | None = None) -> None:
        self.name = source.resolve().name
        self._source = source
        self._arrow = import_pyarrow(source)
        self._shards = find_shards(source, split)
        self._stamps: dict[int, tuple[int, int, int]] = {}
        self._numbers = {shard: number for number, shard in enumerate(self._shards)}
        found = self._scan()
        self._starts = np.cumsum([0, *map(len, found.chunks)])
        self._columns, self._found = found.columns, np.concatenate(found.chunks)
        self._names = list(found.names)
        self._classes, named = self._name_classes(found, classes)
        labels = self._match_labels(found)
        self._bad = np.flatnonzero(labels < 0)
        if len(self._bad) == len(labels):
            raise SourceError(f"{source}: no row with a usable label; {self._why_none()}")
        empty = frozenset(np.flatnonzero(np.bincount(labels[labels >= 0], minlength=len(self._classes)) == 0).tolist())
        ids = Texts.of(map(self._id, range(len(labels))))
        self.contents = Contents("", self._classes, ids, labels, [], empty)
        self.made = {"columns": [found.columns.image, found.columns.label], "class_names": named}

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`.

        Rows without a usable label come first, so that their errors appear early. The others follow in the order of the
        rows.

        Raises:
            SourceError: a shard is found to be damaged.
        """
        rows = np.fromiter(map(self._row, paths), np.int64)
        bad = np.isin(rows, self._bad)
        for number in np.flatnonzero(bad).tolist():
            yield number, partial(_refuse, self._reason(int(rows[number])))
        order = np.argsort(rows, kind="stable")
        order = order[~bad[order]]
        wanted = rows[order]
        for shard, start in enumerate(self._starts[:-1].tolist()):
            first, last = np.searchsorted(wanted, [start, self._starts[shard + 1]]).tolist()
            if last > first:
                for number, fetch in self._fetch_shard(shard, (wanted[first:last] - start).tolist()):
                    yield int(order[first + number]), fetch

    def _fetch_shard(self, shard: int, wanted: list[int]) -> Iterator[tuple[int, Fetch]]:
        """Yield, for each of the rows `wanted` (sorted) of a shard, its index in `wanted` and a reader."""
        place, start = 0, 0
        for images in self._read_images(shard):
            end = start + len(images)
            while place < len(wanted) and wanted[place] < end:
                yield place, partial(_take, images, wanted[place] - start)
                place += 1
            start = end
        if place < len(wanted):
            raise SourceError(f"{self._path(shard)}: ends after row {start}; it changed while it was read: run again")

    def _read_images(self, shard: int) -> Iterator[Any]:
        """Yield Arrow arrays of image bytes, a few MiB each, that cover all rows of a shard."""
        done, damage = 0, (self._arrow.ArrowException, OSError, MemoryError)
        try:
            with self._open(shard) as file:
                data = file.metadata
                bytes_per_row = max(1, column_bytes(data, self._columns.leaf) // max(1, data.num_rows))
                size = max(1, min(_MAX_BATCH, _BATCH_BYTES // bytes_per_row))
                for batch in file.iter_batches(size, columns=[self._columns.leaf], use_threads=False):
                    column = batch.column(0)
                    # A struct column comes with the selected leaf as its only field.
                    yield column if self._columns.leaf == self._columns.image else column.flatten()[0]
                    done += len(column)
        except damage as error:
            raise SourceError(
                f"{self._path(shard)}: damaged after row {done} ({one_line(error)}); get the shard again"
            ) from error

    def _scan(self) -> _Labels:
        """Check every shard, and read its labels."""
        found: _Labels | None = None
        for shard in range(len(self._shards)):
            with self._open(shard) as file:
                columns = find_columns(file.schema_arrow, self._path(shard))
                found = found or _Labels(columns)
                self._check_same(shard, found.columns, columns)
                found.chunks.append(self._read_labels(shard, file, found))
        if found is None:
            raise SourceError(f"{self._source}: holds no parquet shards, expected some such as train-00000-of-00001")
        return found

    def _open(self, shard: int) -> Any:
        """Open a shard for streaming by pages instead of row groups; it must still be the file first opened."""
        path = self._path(shard)
        try:
            stamp = self._stamps.setdefault(shard, _stamp(path))
            with path.open("rb") as handle:
                if handle.read(40).startswith(b"version https://git-lfs"):
                    raise SourceError(f"{path}: is a Git LFS pointer, not the shard itself; run git lfs pull")
            from pyarrow.parquet import ParquetFile

            # Without a buffer size, Arrow reads the whole column of a row group into memory first.
            file = ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
            if _stamp(path) != stamp:  # compared after opening, so that no change goes unnoticed
                file.close()
                raise SourceError(f"{path}: changed while it was read; run again when no process writes to it")
            return file
        except (self._arrow.ArrowException, OSError) as error:
            raise SourceError(
                f"{path}: cannot be read as parquet ({one_line(error)}); it may be cut off: get it again"
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

    def _read_labels(self, shard: int, file: Any, found: _Labels) -> NDArray[np.int64]:
        """Return the labels of one shard [N]: `_NO_LABEL` for nulls; class names become indices in `found.names`."""
        arrow = self._arrow
        try:
            column = file.read(columns=[found.columns.label], use_threads=False).column(0)
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
        labels: NDArray[np.int64] = column.fill_null(_NO_LABEL).to_numpy()
        return labels

    def _name_classes(self, found: _Labels, given: Sequence[str] | None) -> tuple[tuple[str, ...], str]:
        """Return the names of the classes, and their origin."""
        if given is not None:
            return tuple(given), self._compare_names(found, given)
        if found.columns.text:
            return tuple(sorted(found.names)), "label column"
        if found.columns.names is not None:
            return found.columns.names, "hub"
        highest, rows = int(self._found.max(initial=-1)), len(self._found)
        if highest >= max(_MIN_CLASSES, rows):
            row = int(self._found.argmax())
            raise SourceError(
                f"{self._source}/{self._id(row)}: label {highest} in {rows:,} rows, expected less than "
                f"{max(_MIN_CLASSES, rows):,}; name the classes with --classes if it is right"
            )
        width = len(str(max(0, highest)))
        return tuple(f"{label:0{width}d}" for label in range(highest + 1)), "numbers"

    def _compare_names(self, found: _Labels, given: Sequence[str]) -> str:
        """Return how the given classes relate to the labels.

        Names that the hub knows are never assigned to other labels.
        """
        hub = found.columns.names
        if hub is None or found.columns.text:
            return "given"
        if len(hub) != len(given):
            raise SourceError(f"{self._source}: {len(hub)} classes, but --classes names {len(given)}; name all of them")
        if tuple(given) == hub or (set(hub) == set(given) and len(set(hub)) == len(hub)):
            return "given"
        shared = sorted(set(hub).intersection(given))
        if shared:
            raise SourceError(
                f"{self._source}: --classes names {shared[0]!r} as the shards do, but not every class so, once; name "
                "all as they do, or all in other words, in their order"
            )
        pair = f"{hub[0]!r} becomes {given[0]!r}, and so on"
        log_message(f"note: {self._source}: --classes shares no name with the shards; {pair}")
        return BY_POSITION

    def _match_labels(self, found: _Labels) -> NDArray[np.int32]:
        """Return the class of every row; -1 if its label is not one of the classes."""
        labels, names = self._found, self._names if found.columns.text else list(found.columns.names or ())
        if found.columns.text or (tuple(names) != self._classes and set(names) == set(self._classes)):
            index = {name: label for label, name in enumerate(self._classes)}
            table = np.array([*(index.get(name, -1) for name in names), -1], np.int64)
            labels = np.where(labels < 0, -1, table[np.clip(labels, 0, len(names))])
        return np.where((labels < 0) | (labels >= len(self._classes)), -1, labels).astype(np.int32)

    def _why_none(self) -> str:
        if not len(self._found):
            return "they have no rows"
        hidden = {-1: "-1", _NO_LABEL: "null"}.get(int(self._found[0])) if not self._columns.text else None
        if hidden and (self._found == self._found[0]).all():
            return (
                f"every label is {hidden}: the labels of this split are not published, as those of test sets often "
                "are; choose another split with --split, or another set"
            )
        return f"the first, {self._id(0)}: {self._reason(0)}"

    def _reason(self, row: int) -> str:
        found = int(self._found[row])
        if found == _NO_LABEL:
            return "no label (null)"
        if self._columns.text:
            return f"label {self._names[found]!r} is not one of the {len(self._classes)} classes"
        return f"label {found}, expected 0..{len(self._classes) - 1}"

    def _path(self, shard: int) -> Path:
        return self._source / self._shards[shard] if self._source.is_dir() else self._source

    def _id(self, row: int) -> str:
        shard = int(np.searchsorted(self._starts, row, "right")) - 1
        return f"{self._shards[shard]}:{row - self._starts[shard]}"

    def _row(self, path: str) -> int:
        shard, _, row = path.rpartition(":")
        return int(self._starts[self._numbers[shard]]) + int(row)


def import_pyarrow(source: Path) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SourceError(
            f"{source}: reading parquet needs pyarrow, which is not installed; run: pip install 'fastdc[hf]' "
            "(or pip install pyarrow)"
        ) from error
    return pyarrow  # type: ignore[no-any-return]


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is replaced or rewritten: size, modification time, inode."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino


def _take(images: Any, row: int) -> bytes:
    """Copy one image out of an Arrow array, so that the array can be freed."""
    image = images[row]
    if not image.is_valid:
        raise SourceError("no image bytes (null); the set has to be stored with its images embedded")
    buffer = image.as_buffer()
    check_size(buffer.size)
    data: bytes = buffer.to_pybytes()
    return data


def _refuse(reason: str) -> bytes:
    raise SourceError(reason)
