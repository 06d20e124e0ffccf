"""Read class names from a beton, a manifest or a text file, for sources that only number their classes."""

from collections.abc import Sequence
from pathlib import Path

from fastdc.beton.manifest import load_manifest, parse_manifest
from fastdc.beton.texts import one_spelling, show_spelling
from fastdc.common.errors import SourceError
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


ALLOW_MISSING = "; classes that the validation set lacks on purpose are matched by name with --allow-missing-classes"
"""Advice for an error message if `missing_classes` finds some."""


def order_advice(known: Path, val: Path) -> str:
    """Return advice for the case that no class is missing, but the two sets number their classes differently."""
    return f"write {val} again with --classes {known}, or match classes by name with --allow-missing-classes"


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SourceError(f"{path}: {path.stat().st_size} bytes, expected {_WANTED}")
        return path.read_text("utf-8-sig")  # drops the byte order mark that Windows editors write
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}), expected {_WANTED}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is not UTF-8 text, expected {_WANTED}") from error
