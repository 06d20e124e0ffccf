"""Read class names from a beton, a manifest or a text file, and compare the classes of two sets."""

from collections.abc import Sequence
from pathlib import Path

from fastdc.beton.manifest import Manifest, load_manifest, parse_manifest, unknown_classes
from fastdc.beton.texts import one_spelling, show_spelling
from fastdc.common.errors import ConfigError, SourceError
from fastdc.common.files import check_file

_MAX_BYTES = 1 << 24
_WANTED = "a .beton, its .json, or a text file with one class name per line"


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names of classes 0, 1, ... in `path`: a .beton, its .json, or a text file with one name per line.

    Names are normalised as folder names are; see `one_spelling`.

    Raises:
        SourceError: `path` is not a file; or it is a text file that is unreadable or empty, or has an empty or repeated
            name.
        BetonError, ManifestError: see `load_manifest` and `parse_manifest`.
    """
    path = Path(path)
    check_file(path, _WANTED, SourceError)
    if path.suffix in (".beton", ".json"):
        manifest = load_manifest(path) if path.suffix == ".beton" else parse_manifest(path)
        return tuple(map(one_spelling, manifest.classes))
    lines = [line.strip() for line in _read_text(path).rstrip().splitlines()]  # empty lines may end the file
    if not lines:
        raise SourceError(f"{path}: is empty, expected one class name per line")
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            raise SourceError(f"{path}: line {number} is empty, expected one class name per line")
        first = seen.setdefault(one_spelling(line), number)
        if first != number:
            same = (
                repr(line) if lines[first - 1] == line else f"{show_spelling(lines[first - 1])}, {show_spelling(line)}"
            )
            raise SourceError(f"{path}: lines {first} and {number} are both {same}, expected different names")
    return tuple(seen)


def missing_classes(classes: Sequence[str], val: Sequence[str]) -> list[str] | None:
    """Return the classes that a validation set lacks.

    The result is None if the validation set has classes of its own, because names then cannot match the two.
    """
    known = set(map(one_spelling, val))
    return None if known - set(map(one_spelling, classes)) else [n for n in classes if one_spelling(n) not in known]


def class_difference(first: tuple[str, Sequence[str]], second: tuple[str, Sequence[str]]) -> str | None:
    """Return how two class lists differ, for a message; None if they are equal.

    Unicode spells some names in two ways, and macOS often takes the one that other systems do not. Both are equal.

    Args:
        first, second: what has the classes, and their names.
    """
    (one, names), (other, others) = ((what, list(map(one_spelling, names))) for what, names in (first, second))
    if names == others:
        return None
    if sorted(names) == sorted(others):
        at = next(i for i, pair in enumerate(zip(names, others, strict=True)) if pair[0] != pair[1])
        return f"same classes in another order, first at class {at}: '{names[at]}' and '{others[at]}'"
    only = [[name for name in left if name not in set(right)] for left, right in ((names, others), (others, names))]
    return (
        f"classes differ ({len(names)} and {len(others)}): {_some(only[0])} only in {one}, {_some(only[1])} only in "
        f"{other}"
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown}, ... ({len(names)})" if len(names) > 3 else shown or "none"


ALLOW_MISSING = "; classes that the validation set lacks on purpose are matched by name with --allow-missing-classes"
"""Advice for an error message if `missing_classes` finds some."""


def check_same_classes(train: tuple[Path, Manifest], val: tuple[Path, Manifest], allow_missing: bool = False) -> None:
    """Refuse a validation set whose labels mean other classes than those of the set that is trained on.

    Args:
        train, val: the betons with their manifests.
        allow_missing: whether `val` may lack classes or order them otherwise, because they are matched by name.

    Raises:
        ConfigError: the classes differ, or those of a beton without a manifest are unknown. The message names the
            first differences.
    """
    (path, classes), (val_path, val_classes) = ((path, manifest.classes) for path, manifest in (train, val))
    difference = class_difference(("the training set", classes), ("the validation set", val_classes))
    if difference is None:
        return
    unknown = unknown_classes(train, val)
    if unknown is not None:
        raise ConfigError(unknown)
    lost = missing_classes(classes, val_classes)
    if allow_missing and lost is not None:
        return
    advice = f"use sets of equal classes{ALLOW_MISSING if lost else ''}"
    if lost == []:
        advice = f"write {val_path} again with --classes {path}, or match classes by name with --allow-missing-classes"
    raise ConfigError(f"{path} and {val_path}: {difference}; {advice}")


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SourceError(f"{path}: {path.stat().st_size} bytes, expected {_WANTED}")
        return path.read_text("utf-8-sig")  # drops the byte order mark that Windows editors write
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}), expected {_WANTED}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is not UTF-8 text, expected {_WANTED}") from error
