"""Write lists of kept images as plain text for other programs, and read lists made here or elsewhere.

A list has one line per image: its id (or path, or number), and optionally its class and a score, separated by tabs.
Lines that begin with # name the columns and, in a list of mosaics, record how these were made. Characters in names
that would break the format are written as escapes, such as `\\u0009` for a tab. They are a tab, a line end, and a # or
blank at the edge. Names are matched in this form when a list is read.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import Manifest
from fastdc.beton.sample_order import Order
from fastdc.common.errors import MethodError
from fastdc.common.files import write_atomic
from fastdc.subsets.index_order import ORDER_ADVICE, check_index_order
from fastdc.subsets.list_files import LIST_SUFFIX, Combined, read_list_file
from fastdc.subsets.tables import Line
from fastdc.subsets.value_lists import SCORE_ADVICE

HEADER = "# id\tclass\tscore"
MAX_DIGITS = 18
SHOWN = 200
UNSAFE = re.compile(r"\A[#\s]|\s\Z|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
FLOAT = re.compile(r"\d{1,18}(\.\d*)?([eE][+-]?\d{1,2})?")


class ImageList(NamedTuple):
    """Training images that a list names.

    Attributes:
        sources: int64 [M, K], the images that each stored image is made of; K = 1 if images are kept unchanged.
        combined: how they are combined; None if they are not.
    """

    sources: NDArray[np.int64]
    combined: Combined | None


def list_path(subset: Path) -> Path:
    """Return the path of a subset's list: X.list.tsv beside X.beton."""
    return subset.with_suffix(LIST_SUFFIX)


def write_list(
    path: Path,
    manifest: Manifest,
    labels: NDArray[np.int64],
    kept: Iterable[int],
    scores: NDArray[np.float64] | None,
    combined: Combined | None = None,
) -> None:
    """Write ids, classes and scores of the training images `kept`, in their order.

    Args:
        manifest: of the training set. labels: int64 [N], classes of its images.
        kept: indices of the images; for combined images all sources, those of the first stored image first.
        scores: float64 [N] by training image, high = hard, or None.
        combined: how each stored image was made of several, or None.
    """
    rows = (_row(manifest, labels, scores, index) for index in kept)
    head = [HEADER]
    if combined is not None:
        tiles = combined.tiles
        head = [combined.line(), f"{HEADER}\timage"]
        rows = (f"{row}\t{place // tiles}" for place, row in enumerate(rows))
    write_atomic(path, ("\n".join([*head, *rows]) + "\n").encode("utf-8", "backslashreplace"))


def _row(manifest: Manifest, labels: NDArray[np.int64], scores: NDArray[np.float64] | None, index: int) -> str:
    score = "" if scores is None else f"{scores[index]:.9g}"
    return "\t".join((written(manifest.ids[index]), written(manifest.classes[labels[index]]), score))


def written(name: str) -> str:
    """Return a name as a cell of a list; characters that would start another cell, line or comment are escaped."""
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", name)


def read_list(
    path: Path,
    manifest: Manifest,
    labels: NDArray[np.int64],
    index_order: Order = "imagefolder",
    advice: str = ORDER_ADVICE,
) -> ImageList:
    """Read which training images a list names, in its order.

    An image may be named by its id, by a path that ends in its id, or by its file name alone if only one image has it.
    If all lines are numbers and not all of them are ids, they are indices. The class, if given, is a name or a number.

    Args:
        manifest: of the training set. labels: int64 [N], classes of its images.
        index_order: numbering of indices: `imagefolder` for the samples of torchvision's ImageFolder over the same
            folder, `own` for the images of the beton. The former is refused where the two may differ.
        advice: what to do about indices of another order, for the message.

    Raises:
        MethodError: an unknown, ambiguous or repeated image, a class that is not the image's, an empty list,
            incomplete mosaics, or indices of another order. Errors of one line name it.
        ConfigError: the file cannot be read.
    """
    ids = ids_of(manifest)
    lines, combined, indices, mask = read_list_file(path, ids)
    if mask not in (None, len(manifest.ids)):
        raise MethodError(f"{path}: holds a mask of {mask}, the training set has {len(manifest.ids)} images")
    if not lines:
        expected = "one id per line" if mask is None else "a mask that is true for the kept images"
        raise MethodError(f"{path}: holds no images, expected {expected}")
    found = find_images(path, lines, manifest, labels, index_order, advice, indices=indices)
    if combined is not None:
        return ImageList(_group(path, lines, found, labels, combined), combined)
    refuse_repeats(lines, found)
    return ImageList(found[:, None], None)


def find_images(
    path: Path,
    lines: Sequence[Line],
    manifest: Manifest,
    labels: NDArray[np.int64],
    index_order: Order,
    advice: str,
    *,
    indices: bool = False,
) -> NDArray[np.int64]:
    """Return the training image that each entry names, int64 [M].

    Args:
        indices: whether numbers are indices even where all of them are ids too.

    Raises:
        MethodError: see `read_list`.
    """
    ids = ids_of(manifest)
    lines = lines if indices or all(line.image in ids for line in lines) else _whole_numbers(lines)
    digits = all(_is_number(line.image) for line in lines)
    numbers = indices or (digits and not all(line.image in ids for line in lines))
    find = partial(_by_index, manifest) if numbers else _names(manifest, ids)
    found = np.fromiter((_checked(find(line), line, manifest, labels) for line in lines), np.int64, len(lines))
    if numbers and index_order == "imagefolder":
        check_index_order(path, manifest, advice)
    return found


def _whole_numbers(lines: Sequence[Line]) -> Sequence[Line]:
    """Return entries whose numbers are all written as floats, as `np.savetxt` does, with plain whole numbers."""
    floats = [float(line.image) if FLOAT.fullmatch(line.image) else -1.0 for line in lines]
    if min(floats) < 0:
        return lines
    for line, value in zip(lines, floats, strict=True):
        if not value.is_integer():
            raise MethodError(f"{line.where}: index {line.image}, expected a whole number; {SCORE_ADVICE}")
    return [
        line if line.image.isdecimal() else line._replace(image=str(int(value)))
        for line, value in zip(lines, floats, strict=True)
    ]


def _checked(index: int, line: Line, manifest: Manifest, labels: NDArray[np.int64]) -> int:
    # If the complete line is the id, its blanks or commas belong to the id, and no class follows.
    if line.row.strip() != written(manifest.ids[index]):
        _check_label(line, manifest, int(labels[index]))
    return index


def refuse_repeats(lines: Sequence[Line], found: NDArray[np.int64]) -> None:
    """Refuse entries that name the same image.

    Args:
        lines: entries of the list.
        found: image index of each, int64 [N].

    Raises:
        MethodError: an image is named twice; names both places.
    """
    seen: dict[int, str] = {}
    for line, index in zip(lines, found.tolist(), strict=True):
        if seen.setdefault(index, line.where) != line.where:
            raise MethodError(
                f"{line.where}: '{_short(line.image)}' was named in {_place(seen[index])} already; name each image once"
            )


def _place(where: str) -> str:
    """Return the place of an entry without its file, for a message that names the file already."""
    return f"line {where.rpartition(':')[2]}" if where[-1].isdigit() else f"entry {where.rpartition('[')[2][:-1]}"


def _group(
    path: Path, lines: Sequence[Line], found: NDArray[np.int64], labels: NDArray[np.int64], combined: Combined
) -> NDArray[np.int64]:
    """Return the sources of each stored image, int64 [M, K]; refuse incomplete or mixed groups of lines."""
    tiles, begun = combined.tiles, set[str]()
    for start in range(0, len(lines), tiles):
        first, own = lines[start], lines[start : start + tiles]
        if not _is_number(first.stored) or first.stored in begun:
            raise MethodError(
                f"{first.where}: '{_short(first.stored)}' in the fourth column, expected the number of a stored image, "
                "whose lines follow each other"
            )
        begun.add(first.stored)
        whole = [line.stored for line in own] == [first.stored] * tiles
        after = lines[start + tiles].stored if start + tiles < len(lines) else ""
        if not whole or after == first.stored:
            count = sum(line.stored == first.stored for line in lines)
            raise MethodError(
                f"{first.where}: stored image {first.stored} has {count} lines, expected {tiles} that follow each "
                "other; keep or remove all lines of an image"
            )
        if len(set(labels[found[start : start + tiles]].tolist())) > 1:
            raise MethodError(f"{first.where}: stored image {first.stored} is of several classes, expected one")
    return found.reshape(-1, tiles)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= MAX_DIGITS


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _by_index(manifest: Manifest, line: Line) -> int:
    """Return the index that a line names."""
    index = int(line.image)
    if index >= len(manifest.ids):
        raise MethodError(f"{line.where}: image {index} does not exist, expected 0..{len(manifest.ids) - 1}")
    return index


def ids_of(manifest: Manifest) -> dict[str, int]:
    """Return indices of images by their ids as a list writes them; -1 for an id that several images share."""
    found: dict[str, int] = {}
    for index, name in enumerate(manifest.ids):
        text = written(name)
        found[text] = -1 if text in found else index
    return found


def _names(manifest: Manifest, by_id: dict[str, int]) -> Callable[[Line], int]:
    """Return a function that finds an image by its id, by a path that ends in an id, or by a unique file name."""
    by_file: dict[str, int] = {}
    for index, name in enumerate(manifest.ids):
        file = name.rpartition("/")[2]
        by_file[file] = -1 if file in by_file else index

    def find(line: Line) -> int:
        # The whole line comes first: an id may contain the blanks or commas at which the line was split.
        given = (line.row.strip(), line.image, *_tails(line.image.replace("\\", "/")))
        index = next((by_id[name] for name in given if name in by_id), by_file.get(line.image))
        if index is None:
            raise MethodError(f"{line.where}: image '{_short(line.image)}' {_unknown(line.image, by_id, manifest)}")
        if index < 0:
            raise MethodError(
                f"{line.where}: several images are called '{_short(line.image)}'; give the class folder too, "
                "or their indices"
            )
        return index

    return find


def _unknown(image: str, by_id: dict[str, int], manifest: Manifest) -> str:
    parts = image.split("+")
    if len(parts) > 1 and all(part in by_id for part in parts):
        return (
            f"is made of {len(parts)} images of the training set, and its name does not record their crops or tiles; "
            "give the X.list.tsv of a method of whole images (pca), or run the method again"
        )
    return f"is not in the training set, expected ids such as '{manifest.ids[0]}'"


def _tails(name: str) -> Iterator[str]:
    """Yield a path, then its tails: the path without its first folder, without its first two, and so on."""
    while name:
        yield name
        name = name.partition("/")[2]


def _check_label(line: Line, manifest: Manifest, label: int) -> None:
    name = manifest.classes[label]
    if line.label is None or line.label == written(name) or (_is_number(line.label) and int(line.label) == label):
        return
    raise MethodError(
        f"{line.where}: image '{_short(line.image)}' is listed as class '{_short(line.label)}', its class "
        f"in the training set is '{name}' ({label}); check that the list belongs to this set"
    )
