"""Match class folders with named classes by the numbers in the folders' names, as many released sets have them."""

import re
from collections.abc import Sequence

from fastdc.common.errors import SourceError

_NUMBERED = re.compile(r"(?P<prefix>\D*)(?P<number>\d{1,9})")


def match_numbers(
    folders: Sequence[str], classes: Sequence[str], allow_missing: bool, where: str
) -> tuple[str, ...] | None:
    """Return the folder of each class by its number (`new000`, `00000`, `0`, `class_12`); for a missing one, its name.

    Returns:
        None if the folders are not numbered: their names differ by more than a number, the numbers are no positions
        (WordNet ids), or a folder bears the name of a class at another position.

    Raises:
        SourceError: two folders have one number; or the numbers are not 0 to the number of classes - 1, where
            `allow_missing` allows gaps after 0.
    """
    numbers = _numbers(folders)
    largest = max((number for _, number in numbers), default=0)
    if len(numbers) < len(folders) or largest > max(len(classes), len(folders)):
        return None
    places = {name: place for place, name in enumerate(classes)}
    if any(places.get(name, number) != number for name, number in numbers):
        return None
    found: dict[int, str] = {}
    for name, number in numbers:
        if found.setdefault(number, name) != name:
            raise SourceError(
                f"{where}: folders {found[number]!r} and {name!r} both have number {number}; merge them, or rename one"
            )
    _check_numbers(found, classes, allow_missing, where)
    return tuple(found.get(number, name) for number, name in enumerate(classes))


def _numbers(folders: Sequence[str]) -> list[tuple[str, int]]:
    """Return each folder with its number; none unless all names are one prefix and a number."""
    matches = [(name, _NUMBERED.fullmatch(name)) for name in folders]
    found = [(name, match["prefix"], int(match["number"])) for name, match in matches if match]
    one_prefix = len({prefix for _, prefix, _ in found}) == 1
    return [(name, number) for name, _, number in found] if one_prefix and len(found) == len(folders) else []


def _check_numbers(found: dict[int, str], classes: Sequence[str], allow_missing: bool, where: str) -> None:
    last = len(classes) - 1
    largest = max(found)
    if largest > last:
        start = f"from {min(found)} to {largest}"
        raise SourceError(
            f"{where}: {len(found)} folders are numbered {start} ({found[largest]!r}), but --classes names "
            f"{len(classes)} classes, which are 0 to {last}; rename the folders, or name all classes"
        )
    lacking = next((number for number in range(len(classes)) if number not in found), None)
    if lacking is None or (allow_missing and lacking > 0):
        return
    if lacking == 0:
        raise SourceError(
            f"{where}: folders are numbered from {min(found)} ({found[min(found)]!r}), expected from 0, the number of "
            f"class {classes[0]!r}; rename the folders to the names that --classes gives"
        )
    raise SourceError(
        f"{where}: has no folder of number {lacking}, class {classes[lacking]!r} in --classes "
        f"({len(classes) - len(found)} are missing); add them, or keep them as classes without images with "
        "--allow-missing-classes"
    )
