"""Read a score of every training image from a file made here or elsewhere."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import Manifest
from fastdc.beton.sample_order import Order
from fastdc.common.choices import End
from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.settings import closest
from fastdc.subsets.index_order import check_index_order
from fastdc.subsets.lists import find_images, ids_of, refuse_repeats
from fastdc.subsets.parquet_tables import parquet_table
from fastdc.subsets.score_record import ScoreRecord, record_of_text
from fastdc.subsets.stored_values import READERS, is_vector, read_value, shape_of
from fastdc.subsets.tables import (
    CLASSES,
    KEYS,
    NUMBERINGS,
    Table,
    has_key_or_numbers,
    is_float,
    lines_of,
    numbers_of,
    read_text,
    text_table,
)

EXPECTED = "a number for every training image"
ORDER_ADVICE = "give scores with ids, or, where they follow the images of the beton, add --index-order own"
BOTH_WAYS = frozenset(
    {
        "accumulated_margin",
        "area_under_margin",
        "aum",
        "aum_softmax",
        "confidence",
        "correctness",
        "last_correctness",
        "least_confidence",
        "margin",
    }
)
"""Names of scores that are low for hard images as published, and that some programs negate."""


class FileScores(NamedTuple):
    """Scores of a file.

    Attributes:
        values: float64 [N] by training image, high = hard.
        name: title of their column; empty if it has none.
    """

    values: NDArray[np.float64]
    name: str


@dataclass(frozen=True)
class Column:
    """Column of scores in a table.

    Attributes:
        number, name: its place in the table, and its title.
        key: column of the images; None if row i is image i. label: column of the classes, if any.
        called: the column's name in messages.
    """

    number: int
    name: str
    key: int | None
    label: int | None
    called: str


def read_scores(
    path: Path,
    manifest: Manifest,
    labels: NDArray[np.int64],
    *,
    name: str | None = None,
    high: End | None = None,
    index_order: Order = "imagefolder",
    advice: str = ORDER_ADVICE,
) -> FileScores:
    """Return the score of every training image; `docs/guides/pruning.md` lists the formats.

    Rows with an id, path or index may come in any order. Rows without one follow the images in `index_order`.

    Args:
        manifest: of the training set. labels: int64 [N], classes of its images.
        name: title of the column; None takes the only one.
        high: end of difficulty that high values mark; None takes that of the file's record, else `hard`.
        index_order, advice: see `fastdc.subsets.lists.read_list`.

    Raises:
        MethodError: an image is missing, unknown or named twice; a score is not finite; the scores are those of
            another training set; `high` is missing for a score that exists with both signs, or contradicts the file.
        ConfigError: the file cannot be read, or has no such column.
    """
    table = _table(path, ids_of(manifest))
    record = table.record
    if record is not None and record.train != manifest.content_hash:
        raise MethodError(
            f"{path}: holds scores of {record.dataset} with content hash {record.train}, the training set "
            f"{manifest.dataset} has {manifest.content_hash}; score this set with fastdc scores"
        )
    column = _choose(table, name)
    sign = -1.0 if _high(path, column.name, record, high) == "easy" else 1.0
    if column.key is None and column.label is None:
        return FileScores(sign * _by_place(table, column, manifest, index_order, advice), column.name)
    order: Order = "own" if record is not None else index_order
    return FileScores(sign * _by_key(table, column, manifest, labels, order, advice), column.name)


def _table(path: Path, ids: Container[str]) -> Table:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return parquet_table(path)
    if suffix in READERS:
        return _value_table(path, read_value(path, EXPECTED))
    text = read_text(path, EXPECTED)
    return text_table(path, text, ids, has_key_or_numbers, record_of_text(path, text))


def _value_table(path: Path, value: Any) -> Table:
    """Return the table in the values of a file: one vector, vectors by name, values by id, or records."""

    def where(place: int) -> str:
        return f"{path}[{place}]"

    if isinstance(value, Mapping) and isinstance(value.get("subset"), Mapping):  # a checkpoint of DeepCore
        value = value["subset"]
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        titles = list(value[0])
        if any(list(row) != titles for row in value):
            raise ConfigError(f"{path}: its records have different keys, expected {', '.join(titles)} in each")
        value = {title: [row[title] for row in value] for title in titles}
    if is_vector(value) or isinstance(value, np.ndarray):
        return Table(path, [value], None, where)
    if isinstance(value, Mapping) and value and all(isinstance(item, int | float) for item in value.values()):
        return Table(path, [list(map(str, value)), list(value.values())], ("id", ""), where)
    vectors = {str(key): item for key, item in value.items() if is_vector(item)} if isinstance(value, Mapping) else {}
    if vectors:
        return Table(path, list(vectors.values()), tuple(vectors), where)
    raise ConfigError(f"{path}: holds {shape_of(value)}, expected {EXPECTED}: a vector, or values by id")


def _choose(table: Table, name: str | None) -> Column:
    """Return the column that `name` names, or the only one."""
    if table.names is None:
        if name is not None:
            raise ConfigError(f"{table.path}: has no titles, so no score '{name}'; leave the name out")
        return _unnamed(table)
    keys = [place for place, title in enumerate(table.names) if title.lower() in (*KEYS, *CLASSES, *NUMBERINGS)]
    places = {title: place for place, title in enumerate(table.names) if place not in keys}
    if "" in places and len(places) > 1:  # pandas writes its row numbers under no title
        del places[""]
    if name is not None and name not in places:
        raise ConfigError(f"{table.path}: has no score '{name}'; {closest(name, places)}")
    if not places:
        raise ConfigError(
            f"{table.path}: has the columns {', '.join(table.names)}, expected a column of scores; if these are the "
            "kept images, take fastdc compress from-list, or NAME=list:FILE in a sweep"
        )
    first = next(iter(places))
    if name is None and len(places) > 1:
        raise ConfigError(
            f"{table.path}: holds {len(places)} scores: {', '.join(places)}; name one: --score {first} "
            f"of compress from-scores, [keep=easy,score={first}] in a sweep, or score=scores:FILE+score={first} in pca"
        )
    title = first if name is None else name
    if table.names.count(title) > 1:
        raise ConfigError(f"{table.path}: has {table.names.count(title)} columns '{title}', expected one; rename them")
    number = places[title]
    key, label = table.find(KEYS), table.find(CLASSES)
    if table.record is not None:  # fastdc's own file: `index` counts the images of this training set
        key = table.find(["index"])
    if key is not None and len(table.columns[key]) != len(table.columns[number]):
        key = None  # vectors of several lengths: indices of a subset beside scores of all images
    same = label is not None and len(table.columns[label]) == len(table.columns[number])
    return Column(number, title, key, label if same else None, f"in column '{title}'")


def _unnamed(table: Table) -> Column:
    """Return the column of scores of a table without titles, by the number of its columns."""
    width = len(table.columns)
    if width == 2 and all(map(is_float, table.columns[1])):
        return Column(1, "", 0, None, "in the second column, after the id")
    if width == 1 and (not table.rows or any(map(is_float, table.columns[0]))):
        return Column(0, "", None, None, "on each line")
    return Column(2, "", 0, 1, "in the third column, after id and class")


def _high(path: Path, name: str, record: ScoreRecord | None, high: End | None) -> End:
    """Return the end that high values mark, from the record or the argument."""
    known = record.columns[name].high if record is not None and name in record.columns else None
    if known is not None and high not in (None, known):
        raise MethodError(f"{path}: records that high values of '{name}' mark {known} images; leave --high out")
    if known is None and high is None and name.lower() in BOTH_WAYS:
        raise MethodError(
            f"{path}: score '{name}' is low for hard images as published, and negated by some programs; add --high "
            "easy (in a sweep high=easy) if its high values mark easy images, else --high hard"
        )
    return known or high or "hard"


def _by_place(table: Table, column: Column, manifest: Manifest, index_order: Order, advice: str) -> NDArray[np.float64]:
    """Return the scores of rows that follow the training images."""
    given, total = table.columns[column.number], len(manifest.ids)
    values = np.asarray(given) if not table.rows else numbers_of(given)
    if values.shape != (total,) or values.dtype.kind not in "fiu":
        raise MethodError(
            f"{table.path}: holds {shape_of(values)}, expected numbers [{total}], one for every training image"
        )
    numbers = values.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise MethodError(f"{table.where(int(bad[0]))}: score {given[bad[0]]}, expected a finite number")
    if index_order == "imagefolder":
        check_index_order(table.path, manifest, advice, "scores by index")
    return numbers


def _by_key(
    table: Table, column: Column, manifest: Manifest, labels: NDArray[np.int64], index_order: Order, advice: str
) -> NDArray[np.float64]:
    """Return the scores of rows that name their images, or follow them and give their classes."""
    found = _own_places(table, column, len(manifest.ids))
    if found is None:
        lines = lines_of(table, column.key, column.label, column.number)
        found = find_images(table.path, lines, manifest, labels, index_order, advice, indices=column.key is None)
        refuse_repeats(lines, found)
    given = table.column(column.number)
    values = numbers_of(given)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        where, wrong = table.where(int(bad[0])), str(given[bad[0]])[:80]
        raise MethodError(f"{where}: score '{wrong}', expected a finite number {column.called}")
    total = len(manifest.ids)
    scores = np.full(total, np.nan)
    scores[found] = values
    missing = np.flatnonzero(np.isnan(scores))
    if missing.size:
        raise MethodError(
            f"{table.path}: has a score for {total - missing.size:,} of {total:,} training images, '"
            f"{manifest.ids[missing[0]]}' is missing; score every image, or take the images of a list in its order "
            "(compress from-list, score=list:FILE)"
        )
    return scores


def _own_places(table: Table, column: Column, total: int) -> NDArray[np.int64] | None:
    """Return the image of each row of a complete file of `fastdc scores`; None for any other, which is matched by row.

    The file's record was compared with the training set, so its ids need no comparison.
    """
    if table.record is None or column.key is None:
        return None
    places = numbers_of(table.column(column.key))
    return places.astype(np.int64) if np.array_equal(np.sort(places), np.arange(total)) else None
