"""Tables of training images in text files: one row an image, cells between tabs, commas or blanks."""

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import ConfigError, MethodError
from fastdc.subsets.score_record import ScoreRecord

MAX_LIST_BYTES = 1 << 30
KEYS = (
    "id",
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "image",
    "image_path",
    "image_id",
    "name",
    "index",
    "idx",
)
"""Titles of the column that names images, the preferred one first."""
CLASSES = ("class", "label", "target", "targets", "class_name")
"""Titles of the column of classes."""
NUMBERINGS = ("imagefolder_index", "indices")
"""Titles of further columns that are neither classes nor scores."""
_TITLE = re.compile(r"(?!(nan|inf|infinity)$)[^\W\d][\w .:+=,%()\[\]-]*|", re.IGNORECASE)


class Line(NamedTuple):
    """Entry of a list.

    Attributes:
        where: the file and the entry's place in it, for messages.
        image: the id, path or index. label: the class, if given.
        row: the complete line, unchanged.
        stored: number of the stored image, in a list of combined ones. score: the text of the third cell.
    """

    where: str
    image: str
    label: str | None
    row: str = ""
    stored: str = ""
    score: str = ""


@dataclass(frozen=True)
class Table:
    """Columns of a file about training images, not yet matched with a training set.

    Attributes:
        path: the file.
        columns: the columns, [M] each unless the file has vectors of several lengths.
        names: their titles; None if the file has none.
        where: returns the place of a row, for messages.
        rows: the complete lines of a text file, unchanged; empty for other files.
        record: provenance of the scores, if `fastdc scores` wrote the file.
    """

    path: Path
    columns: Sequence[Sequence[Any] | NDArray[Any]]
    names: tuple[str, ...] | None
    where: Callable[[int], str]
    rows: Sequence[str] = ()
    record: ScoreRecord | None = None

    def find(self, titles: Iterable[str]) -> int | None:
        """Return the number of the first column that has one of the titles, in the order of the titles."""
        names = [name.lower() for name in self.names or ()]
        return next((names.index(title) for title in titles if title in names), None)

    def column(self, number: int | None) -> Sequence[Any] | NDArray[Any]:
        """Return a column; empty cells if there is none of this number."""
        if number is None or number >= len(self.columns):
            return [""] * len(self.rows or self.columns[0]) if len(self.columns) else []
        return self.columns[number]


def lines_of(
    table: Table, key: int | None, label: int | None, score: int | None, stored: int | None = None
) -> list[Line]:
    """Return the rows of a table as entries, given the numbers of their columns.

    Args:
        key: column of the images; None if row i is image i. label, score, stored: see `Line`; None if there is none.

    Raises:
        MethodError: a row names no image.
    """
    images = range(len(table.column(score))) if key is None else table.column(key)
    rows = table.rows or [""] * len(images)
    cells = zip(images, *map(table.column, (label, score, stored)), rows, strict=True)
    lines = [
        Line(table.where(place), _text(image), _text(name) or None, row, _text(number), _text(value))
        for place, (image, name, value, number, row) in enumerate(cells)
    ]
    empty = next((line for line in lines if not line.image), None)
    if empty is not None:
        raise MethodError(f"{empty.where}: names no image, expected its id, path or index")
    return lines


def _text(value: Any) -> str:
    """Return a cell as text; empty for a null of parquet."""
    return "" if value is None else str(value)


def read_text(path: Path, expected: str) -> str:
    """Return the text of a file; one whose name ends in .gz is unpacked.

    Args:
        expected: what the file should hold, for messages.

    Raises:
        ConfigError: the file cannot be read, is no UTF-8, or larger than `MAX_LIST_BYTES`.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            data = handle.read(MAX_LIST_BYTES + 1)
        if len(data) > MAX_LIST_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_LIST_BYTES} bytes, expected {expected}")
        return data.decode("utf-8-sig")  # Windows programs write a byte order mark
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        if path.suffix == ".gz" and not getattr(error, "strerror", None):
            reason = "no complete gzip file of UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason}), expected {expected}") from error


def text_table(
    path: Path,
    text: str,
    ids: Container[str],
    headed: Callable[[list[list[str]]], bool],
    record: ScoreRecord | None = None,
) -> Table:
    """Return the table in a text; lines that begin with # are comments.

    Args:
        ids: ids of the training images; a row with one of them is no header.
        headed: whether the first row is a header, from the first two rows.
        record: see `Table`.

    Raises:
        MethodError: a line names no image, or has other cells than the header.
    """
    rows = list(_rows(text))
    first = [_cells(path, number, row) for number, row in rows[:2]]
    known = any(cell in ids for cell in (*first[0], rows[0][1].strip())) if rows else True
    names = None
    if not known and all(map(_TITLE.fullmatch, first[0])) and headed(first):
        names = tuple(first[0])
        del rows[0]
    columns = TextColumns(path, rows, None if names is None else len(names))
    return Table(path, columns, names, lambda place: f"{path}:{rows[place][0]}", [row for _, row in rows], record)


class TextColumns(Sequence[list[str]]):
    """Columns of lines of text, which are split whenever a column is read.

    Cells that are kept as text would take many times the file's size.

    Args:
        path: the file, for messages.
        rows: number and text of every line.
        width: number of cells in a line; None fills short lines with empty cells.

    Raises:
        MethodError: a line has another number of cells.
    """

    def __init__(self, path: Path, rows: Sequence[tuple[int, str]], width: int | None) -> None:
        self._path, self._rows, widest = path, rows, 0
        for number, row in rows:
            found = len(_cells(path, number, row, width))
            if width not in (None, found):
                raise MethodError(f"{path}:{number}: has {found} cells, expected {width} as in the header")
            widest = max(widest, found)
        self._width = widest if width is None else width

    def __len__(self) -> int:
        return self._width

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < self._width:
            raise IndexError(place)
        split = (_cells(self._path, number, row, self._width) for number, row in self._rows)
        return [cells[place] if place < len(cells) else "" for cells in split]


def has_key(rows: list[list[str]]) -> bool:
    """Return whether a first row names the column of the images."""
    return any(cell.lower() in KEYS for cell in rows[0])


def has_key_or_numbers(rows: list[list[str]]) -> bool:
    """Return whether a first row names the column of the images, or stands above a row of numbers."""
    return has_key(rows) or (len(rows) > 1 and all(map(is_float, rows[1])))


def is_float(text: str) -> bool:
    """Return whether a text is a number, also NaN or infinity."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rows(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are neither empty nor comments, with their numbers."""
    # Unlike splitlines, split does not break ids at further line separators of Unicode, such as U+2028.
    for number, row in enumerate(text.split("\n"), 1):
        if row.strip() and not row.lstrip().startswith("#"):
            yield number, row


def _cells(path: Path, number: int, row: str, width: int | None = None) -> list[str]:
    """Split a line at tabs; without tabs at commas or, if it has none, at blanks, as other programs write them.

    An id with blanks or commas may stand alone on its line. An id with commas that precedes a class needs a tab or
    quotes.
    """
    if width == 1 and not row.startswith('"'):
        return [row.strip()]
    if "\t" in row:
        cells = row.split("\t")
    elif "," in row:
        try:
            cells = next(csv.reader([row.strip()], skipinitialspace=True), [])
        except csv.Error as error:
            raise MethodError(f"{path}:{number}: is no line of a CSV file ({error})") from error
    else:
        cells = row.split()
    return [cell.strip() for cell in cells]


def numbers_of(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    """Return values as float64 [M]; NaN where a text is no number."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([_number(value) for value in values])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
