"""Name the classes of rows whose labels are numbers or names: the rows of a table, of parquet or of Arrow files."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.sources.class_folders import BY_POSITION
from fastdc.beton.texts import place_in
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message

NO_LABEL = int(np.iinfo(np.int64).min)
NUMBER = re.compile(r"[-+]?\d{1,18}")
"""Text of a label that is a class number."""
_FRACTION = re.compile(rf"{NUMBER.pattern}(\.0+)?")
MIN_CLASSES = 1000
"""Labels without names may range up to here, even if there are fewer images."""


@dataclass(frozen=True)
class RowLabels:
    """Labels as the rows of a source give them.

    Attributes:
        codes: int64 [N], the label of each row, or its index in `texts`; `NO_LABEL` where a row has none.
        texts: names that the labels are; None if the labels are numbers.
        known: names that the source keeps for numbered labels; None if it keeps none.
        origin: what a manifest records as the origin of `known`.
    """

    codes: NDArray[np.int64]
    texts: tuple[str, ...] | None
    known: tuple[str, ...] | None = None
    origin: str = "hub"


@dataclass(frozen=True)
class NamedRows:
    """Rows whose classes have names.

    Attributes:
        found: the labels as they were read.
        classes: names of the classes.
        named: origin of the names: that of `RowLabels`, "label column", "numbers", "given" or `BY_POSITION`.
        labels: int32 [N], class of every row; -1 if its label is not one of the classes.
    """

    found: RowLabels
    classes: tuple[str, ...]
    named: str
    labels: NDArray[np.int32]

    @property
    def empty(self) -> frozenset[int]:
        """Return the classes without rows."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        return frozenset(np.flatnonzero(counts == 0).tolist())

    def reason(self, row: int) -> str:
        """Return why the label of a row is none of the classes."""
        code = int(self.found.codes[row])
        if code == NO_LABEL:
            return "no label (null)"
        if self.found.texts is not None:
            return f"label {self.found.texts[code]!r} is not one of the {len(self.classes)} classes"
        return f"label {code}, expected 0..{len(self.classes) - 1}"


def read_texts(
    codes: NDArray[np.int64], texts: Sequence[str], given: Sequence[str] | None, source: Path, *, counted: bool = False
) -> RowLabels:
    """Return labels that a source writes as texts: as numbers if all are, unless all are names of given classes.

    Args:
        codes: int64 [N], the index in `texts` of each row's label; `NO_LABEL` where a row has none.
        texts: the different labels.
        given: names of classes that the user gave.
        source: for the message.
        counted: whether numbers must be 0, 1, ... without a gap or leading zeros if no names are given. A text column
            may hold names that only look like numbers, such as the offsets of WordNet.

    Raises:
        SourceError: the labels are whole numbers that are written as fractions, which would sort as texts.
    """
    named = bool(texts) and set(texts) <= set(given or ())
    if named or not all(map(_FRACTION.fullmatch, texts)):
        return RowLabels(codes, tuple(texts))
    fraction = next((text for text in texts if not NUMBER.fullmatch(text)), None)
    if fraction is not None:
        raise SourceError(f"{source}: labels are fractions such as {fraction}; write whole numbers, or names")
    if counted and not given and set(texts) != set(map(str, range(len(texts)))):
        return RowLabels(codes, tuple(texts))
    numbers = np.array([*map(int, texts), NO_LABEL], np.int64)
    return RowLabels(numbers[np.where(codes == NO_LABEL, -1, codes)], None)


def name_rows(found: RowLabels, given: Sequence[str] | None, source: Path, row_id: Callable[[int], str]) -> NamedRows:
    """Match the labels of all rows with names: those given, else those of the source, else the numbers.

    Args:
        found: labels as read. given: names of classes 0, 1, ...; None takes those of the source.
        source, row_id: for messages: the source, and the id of a row.

    Raises:
        SourceError: `given` differ from the names that the source keeps, a number is too large to count classes, labels
            count from 1, or no row has a usable label.
    """
    classes, named = _name_classes(found, given, source, row_id)
    _refuse_from_one(found, len(classes), source)
    rows = NamedRows(found, classes, named, _match_labels(found, classes))
    if (rows.labels < 0).all():
        raise SourceError(f"{source}: no row with a usable label; {_why_none(rows, row_id)}")
    return rows


def sort_rows(
    rows: NDArray[np.int64], labels: NDArray[np.int32], reason: Callable[[int], str]
) -> tuple[Iterator[tuple[int, Callable[[], NoReturn]]], NDArray[np.int64]]:
    """Sort requested rows for reading: those without a usable label come first, so that their errors appear early.

    Args:
        rows: int64 [R], rows in the order in which they are requested.
        labels: int32 [N], class of every row of the source; -1 for none.
        reason: returns why a row has none.

    Returns:
        The place in `rows` of each row without a class, with a reader that raises the reason; and the places of the
        others, in the order of the rows.
    """
    usable = labels[rows] >= 0
    refused = ((place, partial(_refuse, reason(int(rows[place])))) for place in np.flatnonzero(~usable).tolist())
    order = np.argsort(rows, kind="stable")
    return refused, order[usable[order]]


def _refuse(reason: str) -> NoReturn:
    raise SourceError(reason)


def _name_classes(
    found: RowLabels, given: Sequence[str] | None, source: Path, row_id: Callable[[int], str]
) -> tuple[tuple[str, ...], str]:
    if given is not None:
        return tuple(given), _compare_names(found, given, source)
    if found.texts is not None:
        return tuple(sorted(found.texts)), "label column"
    if found.known is not None:
        return found.known, found.origin
    highest, rows = int(found.codes.max(initial=-1)), len(found.codes)
    if highest >= max(MIN_CLASSES, rows):
        row = int(found.codes.argmax())
        raise SourceError(
            f"{place_in(source, row_id(row))}: label {highest} in {rows:,} rows, expected less than "
            f"{max(MIN_CLASSES, rows):,}; name the classes with --classes if it is right"
        )
    width = len(str(max(0, highest)))
    return tuple(f"{label:0{width}d}" for label in range(highest + 1)), "numbers"


def _compare_names(found: RowLabels, given: Sequence[str], source: Path) -> str:
    """Return how the given classes relate to the labels.

    Names that the source knows are never assigned to other labels.
    """
    known = found.known
    if known is None or found.texts is not None:
        return "given"
    if len(known) != len(given):
        raise SourceError(f"{source}: {len(known)} classes, but --classes names {len(given)}; name all of them")
    if tuple(given) == known or (set(known) == set(given) and len(set(known)) == len(known)):
        return "given"
    shared = sorted(set(known).intersection(given))
    if shared:
        raise SourceError(
            f"{source}: --classes repeats only some of the source's names, such as {shared[0]!r}; give exactly the "
            "source's names, or only new names in the source's order"
        )
    pair = f"{known[0]!r} becomes {given[0]!r}, and so on"
    log_message(f"note: {source}: --classes shares no name with the source; {pair}")
    return BY_POSITION


def _refuse_from_one(found: RowLabels, classes: int, source: Path) -> None:
    """Refuse numbers that run from 1 to the number of classes: leaving out the last would shift all the others.

    Raises:
        SourceError: no label is 0, and the largest is the number of classes.
    """
    numbers = found.codes[found.codes >= 0] if found.texts is None else found.codes[:0]
    if numbers.size and numbers.min() > 0 and numbers.max() == classes:
        raise SourceError(
            f"{source}: labels run from {numbers.min()} to {classes} for {classes} classes, expected 0 to "
            f"{classes - 1}; they count from 1: subtract 1 from each label, or write the names of the classes as labels"
        )


def _match_labels(found: RowLabels, classes: tuple[str, ...]) -> NDArray[np.int32]:
    labels, names = found.codes, found.known or () if found.texts is None else found.texts
    if found.texts is not None or (names != classes and set(names) == set(classes)):
        index = {name: label for label, name in enumerate(classes)}
        table = np.array([*(index.get(name, -1) for name in names), -1], np.int64)
        labels = np.where(labels < 0, -1, table[np.clip(labels, 0, len(names))])
    return np.where((labels < 0) | (labels >= len(classes)), -1, labels).astype(np.int32)


def _why_none(rows: NamedRows, row_id: Callable[[int], str]) -> str:
    codes = rows.found.codes
    if not len(codes):
        return "they have no rows"
    hidden = {-1: "-1", NO_LABEL: "null"}.get(int(codes[0])) if rows.found.texts is None else None
    if hidden and (codes == codes[0]).all():
        return (
            f"every label is {hidden}: the labels of this split are not published, as those of test sets often "
            "are; choose another split with --split, or another set"
        )
    return f"the first, {row_id(0)}: {rows.reason(0)}"
