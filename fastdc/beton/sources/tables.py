"""Read the rows of a table that lists images with their labels: CSV with or without a header, or JSON lines."""

import csv
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from fastdc.beton.sources.arrow_columns import IMAGE_COLUMNS, find_column
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.trees import is_image
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line

JSON_LINES = ".jsonl"
TABLE_SUFFIXES = (".csv", ".tsv", JSON_LINES)
FILE_COLUMNS = ("file_name", "filename", "file", "path", *IMAGE_COLUMNS)
CLASS_COLUMNS = ("label", "labels", "class_id", "fine_label", "class", "class_name", "category")
_MAX_LINE = 1 << 20  # letters
_DELIMITERS = ",;\t"
_UNNAMEABLE = re.compile(r"[\0\ud800-\udc7f\udd00-\udfff]")  # in no file name, but JSON may escape them
_DRIVE = re.compile(r"[A-Za-z]:")


class Row(NamedTuple):
    """One row: the line on which it ends, the image's path inside the folder, and the label's text; "" for none."""

    line: int
    file: str
    label: str


class Table(NamedTuple):
    """Names of the image and the label column, and the rows, which are read as they are taken."""

    columns: tuple[str, str]
    rows: Iterator[Row]


def open_table(path: Path, options: SourceOptions) -> Table:
    """Open a table whose image paths are relative to its folder.

    A CSV has no header if a cell of its first line is called like an image file. Its columns then are numbers from 1.

    Raises:
        SourceError: the table cannot be read, is empty, or lacks a column. Taking a row raises it for a line that is
            damaged, names no image or one outside the folder, or is shorter than the header.
    """
    try:
        return _open_json(path, options) if path.suffix.lower() == JSON_LINES else _open_csv(path, options)
    except StopIteration as error:
        raise SourceError(f"{path}: has no rows, expected a line for each image") from error


def _open_csv(path: Path, options: SourceOptions) -> Table:
    lines = _read_lines(path)
    first = next(lines)
    delimiter = max(_DELIMITERS, key=first.count)
    rows = _parse_csv(path, chain([first], lines), delimiter)
    line, cells = next(rows)
    image, label = options.image_column, options.label_column
    if any(map(is_image, cells)):
        names = [str(number) for number in range(1, len(cells) + 1)]
        if image is None:
            image = names[[is_image(cell) for cell in cells].index(True)]
        if label is None and len(cells) == 2:
            label = next(name for name in names if name != image)
        rows = chain([(line, cells)], rows)
    else:
        names = cells
    columns = _find_columns(path, names, image, label)
    places = [names.index(column) for column in columns]
    made = (_make_row(path, line, *(_cell(path, line, cells, place) for place in places)) for line, cells in rows)
    return Table(columns, made)


def _parse_csv(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise SourceError(
            f"{path}: line {reader.line_num} is not valid CSV ({one_line(error)}); repair its quotes"
        ) from error


def _cell(path: Path, line: int, cells: list[str], place: int) -> str:
    if place >= len(cells):
        raise SourceError(f"{path}: line {line} has {len(cells)} cells, expected at least {place + 1}; complete it")
    return cells[place]


def _open_json(path: Path, options: SourceOptions) -> Table:
    rows = _parse_json(path)
    line, values = next(rows)
    columns = _find_columns(path, list(values), options.image_column, options.label_column)
    rows = chain([(line, values)], rows)
    made = (_make_row(path, line, *(_text_of(path, line, row, name) for name in columns)) for line, row in rows)
    return Table(columns, made)


def _parse_json(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_read_lines(path), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}: line {number} is not valid JSON ({one_line(error)}); repair it") from error
        if not isinstance(values, dict):
            raise SourceError(f"{path}: line {number} is not a JSON object, expected one with a field for each column")
        yield number, values


def _text_of(path: Path, line: int, row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        kind = type(value).__name__
        raise SourceError(
            f"{path}: line {line}: {column!r} is a {kind}, expected text or a whole number; choose another column with "
            "--image-column or --label-column"
        )
    return str(value).strip()


def _read_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            number = 0
            while line := lines.readline(_MAX_LINE + 1):
                number += 1
                if len(line) > _MAX_LINE:
                    raise SourceError(f"{path}: line {number} is longer than {_MAX_LINE} letters, expected a table")
                yield line
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is not UTF-8 text, expected a table; save it as UTF-8") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}), expected a table") from error


def _find_columns(path: Path, names: list[str], image: str | None, label: str | None) -> tuple[str, str]:
    return (
        find_column(names, image, FILE_COLUMNS, "image", path),
        find_column(names, label, CLASS_COLUMNS, "label", path),
    )


def _make_row(path: Path, line: int, file: str, label: str) -> Row:
    """Return a row; Windows' backslashes become slashes.

    Raises:
        SourceError: the row names no image, or one outside the folder.
    """
    name = posixpath.normpath(file.replace("\\", "/"))
    if not file or name == "." or _UNNAMEABLE.search(name):
        raise SourceError(f"{path}: line {line} names no image, expected a path inside the folder; remove the line")
    if name.startswith("/") or _DRIVE.match(name) or name.split("/")[0] == "..":
        raise SourceError(f"{path}: line {line}: {file!r} leads out of the folder, expected a path inside it")
    return Row(line, name, label)
