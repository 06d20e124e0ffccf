"""Parse lists of kept images: their lines, and the comment that records how images were combined.

A list of mosaics begins with `# fastdc-list 2 {...}`; its fourth column numbers the stored images. A NumPy file of
indices is a list too.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, ValidationError, model_validator

from fastdc.beton.manifest import parse_manifest
from fastdc.common.errors import ConfigError, ManifestError, MethodError
from fastdc.common.settings import Settings, first_problem
from fastdc.methods import Compressed, Method
from fastdc.methods.bases.method import Mosaic
from fastdc.methods.bases.method_config import Fit, Resize

MAX_LIST_BYTES = 1 << 30
LIST_VERSION = 2
"""Version of lists whose comment records how images were combined. Version 1 had no such comment."""
_MARK = re.compile(r"#\s*fastdc-list\s*(\d*)\s*(.*)")
_ONE_BY_ONE = "to store its images one by one, give a list without comments: grep -v '^#' LIST | cut -f1 > ids.txt"


class Combined(Settings):
    """Record of how several images became one, as kept in the comment of a list.

    Attributes:
        method: method that combined them.
        tiles: source images in each stored image; their lines are consecutive in the list, in the order of the tiles.
        grid, fit, resize, view, side, max_bytes: see `Mosaic`; grid is None if the method does not record how it
            combines images.
        image_size: side S of a subset's images in pixels.
        hints: training hints of the set (`tile_grid`).
    """

    method: str
    tiles: int = Field(ge=1)
    grid: int | None = Field(ge=1, le=8)
    fit: Fit | None
    resize: Resize = "antialias"
    view: float | None = Field(None, ge=1)
    side: int | None = Field(None, ge=8, le=32768)
    max_bytes: int | None = Field(None, ge=1)
    image_size: int = Field(ge=8, le=4096)
    hints: dict[str, JsonValue]

    @model_validator(mode="after")
    def _tiles_fill_the_grid(self) -> Self:
        if self.grid is not None and (self.tiles != self.grid**2 or self.fit is None):
            raise ValueError(f"tiles={self.tiles} and fit={self.fit} do not go with grid={self.grid}")
        return self

    @classmethod
    def of(cls, method: Method, compressed: Compressed, image_size: int) -> "Combined | None":
        """Describe how a method combined images; None if it keeps images unchanged."""
        mosaic, tiles = compressed.mosaic, int(compressed.sources.shape[1])
        if mosaic is None and tiles == 1:
            return None
        how = {"grid": None, "fit": None} if mosaic is None else mosaic.model_dump()
        return cls(method=method.info.name, tiles=tiles, image_size=image_size, hints=compressed.hints, **how)

    def mosaic(self, path: Path, fit: Fit | None = None) -> Mosaic:
        """Return the mosaic settings that make the images again.

        Args:
            path: the list. fit: replaces the list's.

        Raises:
            MethodError: the list does not record them.
        """
        if self.grid is None or self.fit is None:
            raise MethodError(
                f"{path}: method {self.method} made each stored image of {self.tiles} images, and does not record how; "
                f"run fastdc compress {self.method} again; {_ONE_BY_ONE}"
            )
        values = {name: getattr(self, name) for name in ("resize", "view", "side", "max_bytes")}
        return Mosaic(grid=self.grid, fit=fit or self.fit, **values)

    def line(self) -> str:
        """Return the comment line; unused settings are left out, so that older versions of fastdc can read it."""
        unused = {name for name in ("view", "side", "max_bytes") if getattr(self, name) is None}
        return f"# fastdc-list {LIST_VERSION} {self.model_dump_json(exclude=unused)}"


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


class ListFile(NamedTuple):
    """Parsed list whose images are not yet matched with a training set."""

    lines: list[Line]
    combined: Combined | None
    indices: bool = False


def read_list_file(path: Path) -> ListFile:
    """Read a text file with one image per line, or a .npy file of indices.

    Raises:
        ConfigError: the file cannot be read, is neither, or has a comment of a newer version.
        MethodError: a line names no image, an index is negative, or an older fastdc wrote a list of mosaics.
    """
    if path.suffix == ".npy":
        return ListFile(list(_numpy_lines(path)), None, indices=True)
    text = _read_text(path)
    combined = _read_comment(path, text)
    lines = list(_text_lines(path, text))
    if combined is None:
        _refuse_old_mosaics(path, lines)
    return ListFile(lines, combined)


def read_array(path: Path, expected: str) -> NDArray[Any]:
    """Return the array in an .npy file.

    Args:
        expected: what the file should hold, for the message.

    Raises:
        ConfigError: the file cannot be read, or holds several arrays or Python objects.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no plain numpy array"
        raise ConfigError(f"{path}: cannot be read ({reason}), expected {expected}") from error
    if not isinstance(values, np.ndarray):
        raise ConfigError(f"{path}: holds several arrays, expected {expected}")
    return values


def _numpy_lines(path: Path) -> Iterator[Line]:
    values = read_array(path, "indices saved by np.save(FILE, np.asarray(indices, np.int64))")
    if values.ndim != 1 or values.dtype.kind not in "iu":
        hint = "; np.flatnonzero(mask) makes indices of a mask" if values.dtype == bool else ""
        raise ConfigError(f"{path}: holds {values.dtype} {list(values.shape)}, expected indices, int [M]{hint}")
    for place, value in enumerate(values.tolist()):
        if value < 0:
            raise MethodError(f"{path}[{place}]: index {value}, expected 0 or more")
        yield Line(f"{path}[{place}]", str(value), None, str(value))


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_LIST_BYTES} bytes, expected a list of image ids")
        return path.read_text(encoding="utf-8-sig")  # Windows programs write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"{path}: cannot be read ({reason}), expected a text file with one image id per line, or indices as .npy"
        ) from error


def _read_comment(path: Path, text: str) -> Combined | None:
    """Return how images were combined, if a comment above the first image records it; None otherwise."""
    for number, row in enumerate(text.split("\n"), 1):
        if row.strip() and not row.lstrip().startswith("#"):
            return None
        found = _MARK.fullmatch(row.strip())
        if found is None:
            continue
        if found[1] != str(LIST_VERSION):
            raise ConfigError(
                f"{path}:{number}: is a list of version {found[1] or 'unknown'}, this fastdc reads version "
                f"{LIST_VERSION}; update fastdc"
            )
        try:
            return Combined.model_validate_json(found[2])
        except ValidationError as error:
            raise ConfigError(
                f"{path}:{number}: {first_problem(error)}; take this comment from the list as fastdc wrote it"
            ) from error
    return None


def _text_lines(path: Path, text: str) -> Iterator[Line]:
    # Unlike splitlines, split does not break ids at further line separators of Unicode, such as U+2028.
    for number, row in enumerate(text.split("\n"), 1):
        if not row.strip() or row.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in row.split("\t")] if "\t" in row else _split_spaces(row)
        if not cells or not cells[0]:
            raise MethodError(f"{path}:{number}: names no image, expected its id at the beginning of the line")
        yield Line(
            f"{path}:{number}",
            cells[0],
            cells[1] if len(cells) > 1 and cells[1] else None,
            row,
            cells[3] if len(cells) > 3 else "",
            cells[2] if len(cells) > 2 else "",
        )


def _split_spaces(row: str) -> list[str]:
    """Split a line without tabs at commas or, if it has none, at blanks, as other programs write them.

    An id with blanks or commas may stand alone on its line. An id with commas that precedes a class needs a tab.
    """
    return [cell.strip() for cell in row.split(",")] if "," in row else row.split()


def _refuse_old_mosaics(path: Path, lines: list[Line]) -> None:
    """Refuse a list of mosaics of fastdc 0.1, recognised by the manifest of the set beside it.

    That version joined the ids of a mosaic's sources with `+` in the manifest and wrote no comment into the list.
    """
    if not path.name.endswith(".list.tsv") or not lines:
        return
    manifest = path.with_name(f"{path.name.removesuffix('.list.tsv')}.json")
    try:
        stored = parse_manifest(manifest)
    except ManifestError:
        return
    tiles = len(lines) // max(1, len(stored.ids))
    if tiles > 1 and stored.ids[0] == "+".join(line.image for line in lines[:tiles]):
        raise MethodError(
            f"{path}: is a list of mosaics of an older fastdc: each stored image is made of {tiles} of its lines, and "
            f"it does not record how; make the set again with fastdc compress, whose list does; {_ONE_BY_ONE}"
        )
