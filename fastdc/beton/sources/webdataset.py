"""Read images from shards of WebDataset: tars whose files of one key are one sample.

Samples are numbered in the order of the shards and their files. Their ids are SHARD:KEY.SUFFIX
("train-000000.tar:000012.jpg"). Images of plain tars are read at their place, those of compressed tars in one pass.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fastdc.beton.positioned_io import read_range
from fastdc.beton.sources.archive_tree import DAMAGE
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.row_labels import name_rows, read_texts, sort_rows
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.tar_trees import forget_headers, read_streamed
from fastdc.beton.sources.trees import Fetch, check_size
from fastdc.beton.sources.wds_samples import scan_shards
from fastdc.beton.sources.wds_shards import is_plain, list_shards, names_beside, open_tar
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line


class WebDataset:
    """Shards of one split, opened and checked. Their labels are read at once, their images later.

    Args:
        source: a folder of shards, one shard, or a pattern of names.
        options: `split` and `classes` are read.

    Attributes:
        name: the source's name.
        contents: classes and samples. Unusable samples are included; reading one raises the reason.
        made: for the manifest.

    Raises:
        SourceError: see `list_shards` and `scan_shards`; or no sample has a usable label.
    """

    def __init__(self, source: Path, options: SourceOptions) -> None:
        self._folder, self._shards = list_shards(source, options.split)
        self.name = (source if source.exists() else self._folder).resolve().name
        self._found = found = scan_shards(self._folder, self._shards)
        if len(found.reasons) == len(found.ids):
            first = f"the first, {found.ids[0]}, is {found.reasons[0]}" if found.ids else "expected 0.jpg and 0.cls"
            raise SourceError(f"{source}: holds no samples of an image and a label; {first}")
        labels = read_texts(np.array(found.labels, np.int64), tuple(found.texts), options.classes, source)
        own = names_beside(self._folder)
        labels, given = replace(labels, known=own, origin="source"), options.classes or (own if labels.texts else None)
        self._rows = name_rows(labels, given, source, found.ids.__getitem__)
        named = "source" if labels.texts and not options.classes else self._rows.named
        self.contents = Contents("", self._rows.classes, found.ids, self._rows.labels, [], self._rows.empty)
        self.made = {"labels": sorted(found.suffixes), "class_names": named}

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`. Unusable samples come first, then the order is the shards'.

        Raises:
            SourceError: a compressed shard is found to be damaged.
        """
        rows = np.fromiter(self._find(paths), np.int64)
        refused, order = sort_rows(rows, self._rows.labels, self._reason)
        yield from refused
        shards = np.array(self._found.shards, np.int64)[rows[order]]
        for shard in np.unique(shards).tolist():
            numbers = order[shards == shard]
            yield from self._fetch_shard(self._folder / self._shards[shard], rows[numbers].tolist(), numbers.tolist())

    def _find(self, paths: Iterable[str]) -> Iterator[int]:
        """Yield the row of each id. Mostly all ids are given in their order, which needs no index."""
        ids, index, row = self._found.ids, dict[str, int](), -1
        for path in paths:
            row += 1
            if row >= len(ids) or ids[row] != path:
                index = index or {text: number for number, text in enumerate(ids)}
                row = index[path]
            yield row

    def _fetch_shard(self, path: Path, rows: list[int], numbers: list[int]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each of the rows (ascending) of one shard, with its number."""
        offsets, sizes = self._found.offsets, self._found.sizes
        if is_plain(path):
            for row, number in zip(rows, numbers, strict=True):
                yield number, partial(_read_at, path, offsets[row], sizes[row])
            return
        place = 0
        try:
            with open_tar(path) as archive:
                for member in archive:
                    forget_headers(archive)
                    if place == len(rows) or offsets[rows[place]] != member.offset_data:
                        continue
                    fetch, row = read_streamed(archive, member), rows[place]
                    while place < len(rows) and rows[place] == row:
                        yield numbers[place], fetch
                        place += 1
        except DAMAGE as error:
            raise SourceError(f"{path}: cannot be read to its end ({one_line(error)}); get the shard again") from error
        if place < len(rows):
            raise SourceError(f"{path}: lacks {self._found.ids[rows[place]]}; it changed while it was read: run again")

    def _reason(self, row: int) -> str:
        return self._found.reasons.get(row) or self._rows.reason(row)


def _read_at(path: Path, offset: int, size: int) -> bytes:
    check_size(size)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = read_range(descriptor, offset, size)
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise SourceError(f"the shard ends after {len(data)} of its {size} bytes; get the shard again")
    return data
