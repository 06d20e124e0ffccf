"""Lists of kept images as plain text that other programs can read, and lists that were made elsewhere.

One line per image: its id (or path, or number), and optionally its class and a score, separated by tabs. Lines that
begin with # say what the columns are. Names that would break this (a tab, a line end, a # or blank at the edge) are
written with escapes, `\\u0009` for a tab, and found again by them.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import Manifest
from fastdc.errors import ConfigError, MethodError
from fastdc.files import write_atomic

HEADER = "# id\tclass\tscore"
MAX_LIST_BYTES = 1 << 30
MAX_DIGITS = 18
SHOWN = 200
UNSAFE = re.compile(r"\A[#\s]|\s\Z|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
TITLES = frozenset({"id", "index", "image", "path", "file", "filename", "name"})
"""What the first column of a list is called, where its first line says so."""


class Line(NamedTuple):
    """One entry of a list: where it stands, the image and, if given, its class; and all of it, as it stands there."""

    number: int
    image: str
    label: str | None
    row: str = ""


def list_path(subset: Path) -> Path:
    """Where the list of a subset's images lies: X.list.tsv beside X.beton."""
    return subset.with_suffix(".list.tsv")


def write_list(
    path: Path,
    manifest: Manifest,
    labels: NDArray[np.int64],
    kept: Iterable[int],
    scores: NDArray[np.float64] | None,
) -> None:
    """Write ids, classes and scores of the training images `kept`, in their order.

    Args:
        manifest: of the training set. labels: int64 [N], classes of its images.
        scores: float64 [N] by training image, high = hard, or None.
    """
    rows = (
        "\t".join((_written(manifest.ids[i]), _written(manifest.classes[labels[i]]), _score(scores, i))) for i in kept
    )
    write_atomic(path, ("\n".join([HEADER, *rows]) + "\n").encode("utf-8", "backslashreplace"))


def _score(scores: NDArray[np.float64] | None, index: int) -> str:
    return "" if scores is None else f"{scores[index]:.9g}"


def _written(name: str) -> str:
    """A name as a cell of a list: itself, but for what would be read as another cell, line or comment."""
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", name)


def read_list(path: Path, manifest: Manifest, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Training images named by a list, in its order.

    An image may be named by its id, by a path that ends in its id, by its file name alone where only one image has it,
    or in a list of nothing but numbers that are no ids by its index in the beton. The class, where given, is a name or
    a number.

    Args:
        manifest: of the training set. labels: int64 [N], classes of its images.

    Returns:
        int64 [M], each image once.

    Raises:
        MethodError: an unknown, ambiguous or repeated image, a class that is not the image's, or an empty list; with
            the list's line.
        ConfigError: the file cannot be read as text.
    """
    lines = _parse(path)
    ids = _by_id(manifest)
    if lines and lines[0].image.lower() in TITLES and lines[0].image not in ids:
        del lines[0]
    if not lines:
        raise MethodError(f"{path}: holds no images, expected one id per line")
    numbers = all(_is_number(line.image) for line in lines) and not all(line.image in ids for line in lines)
    find = _numbers(manifest) if numbers else _names(manifest, ids)
    seen: dict[int, int] = {}
    for line in lines:
        index = find(path, line)
        if index in seen:
            raise MethodError(
                f"{path}:{line.number}: '{_short(line.image)}' was named in line {seen[index]} already; name each "
                "image once"
            )
        seen[index] = line.number
        if line.row.strip() != _written(manifest.ids[index]):
            _check_label(path, line, manifest, int(labels[index]))
    return np.fromiter(seen, np.int64, len(seen))


def _parse(path: Path) -> list[Line]:
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_LIST_BYTES} bytes, expected a list of image ids")
        text = path.read_text(encoding="utf-8-sig")  # Windows programs begin a text with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"{path}: cannot be read ({reason}), expected a text file with one image id per line"
        ) from error
    lines = []
    for number, row in enumerate(text.split("\n"), 1):
        if not row.strip() or row.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in row.split("\t")] if "\t" in row else _split_spaces(row)
        if not cells or not cells[0]:
            raise MethodError(f"{path}:{number}: names no image, expected its id at the beginning of the line")
        lines.append(Line(number, cells[0], cells[1] if len(cells) > 1 and cells[1] else None, row))
    return lines


def _split_spaces(row: str) -> list[str]:
    """A line without tabs: commas or blanks between its cells, as other programs write.

    An id with blanks or commas may stand alone on its line; before a class one with commas needs a tab.
    """
    return [cell.strip() for cell in row.split(",")] if "," in row else row.split()


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= MAX_DIGITS


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


Find = Callable[[Path, Line], int]


def _numbers(manifest: Manifest) -> Find:
    """Images by their index in the beton."""

    def find(path: Path, line: Line) -> int:
        index = int(line.image)
        if index >= len(manifest.ids):
            raise MethodError(
                f"{path}:{line.number}: image {index} does not exist, expected 0..{len(manifest.ids) - 1}"
            )
        return index

    return find


def _by_id(manifest: Manifest) -> dict[str, int]:
    """Images by their ids as a list writes them; -1 where several share one."""
    found: dict[str, int] = {}
    for index, name in enumerate(manifest.ids):
        text = _written(name)
        found[text] = -1 if text in found else index
    return found


def _names(manifest: Manifest, by_id: dict[str, int]) -> Find:
    """Images by id, by a path that ends in an id, or by nothing but a file name that only one image has."""
    by_file: dict[str, int] = {}
    for index, name in enumerate(manifest.ids):
        file = name.rpartition("/")[2]
        by_file[file] = -1 if file in by_file else index

    def find(path: Path, line: Line) -> int:
        given = (line.row.strip(), line.image, *_tails(line.image.replace("\\", "/")))
        index = next((by_id[name] for name in given if name in by_id), by_file.get(line.image))
        if index is None:
            raise MethodError(
                f"{path}:{line.number}: image '{_short(line.image)}' is not in the training set, expected ids such as "
                f"'{manifest.ids[0]}'"
            )
        if index < 0:
            raise MethodError(
                f"{path}:{line.number}: several images are called '{_short(line.image)}'; give the class folder too, "
                "or their indices"
            )
        return index

    return find


def _tails(name: str) -> Iterator[str]:
    """A path, and what is left of it without its first folders."""
    while name:
        yield name
        name = name.partition("/")[2]


def _check_label(path: Path, line: Line, manifest: Manifest, label: int) -> None:
    name = manifest.classes[label]
    if line.label is None or line.label == _written(name) or (_is_number(line.label) and int(line.label) == label):
        return
    raise MethodError(
        f"{path}:{line.number}: image '{_short(line.image)}' is listed as class '{_short(line.label)}', the training "
        f"set says '{name}' ({label}); check that the list belongs to this set"
    )
