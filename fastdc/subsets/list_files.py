"""Parse lists of kept images: their lines, and the comment that records how images were combined.

A list of mosaics begins with `# fastdc-list 2 {...}`; its fourth column numbers the stored images.
"""

import re
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from fastdc.beton.manifest import parse_manifest
from fastdc.common.errors import ConfigError, ManifestError, MethodError
from fastdc.common.settings import Settings, first_problem
from fastdc.methods import Compressed, Method
from fastdc.methods.bases.method import Mosaic
from fastdc.methods.bases.method_config import Fit, Resize
from fastdc.subsets.parquet_tables import parquet_table
from fastdc.subsets.stored_values import READERS, read_value
from fastdc.subsets.tables import CLASSES, KEYS, Line, Table, has_key, lines_of, read_text, text_table
from fastdc.subsets.value_lists import INDICES, value_list

LIST_VERSION = 2
"""Version of lists whose comment records how images were combined. Version 1 had no such comment."""
LIST_SUFFIX = ".list.tsv"
EXPECTED = "a text file with one image id per line, or indices as .npy"
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


class ListFile(NamedTuple):
    """Parsed list whose images are not yet matched with a training set.

    Attributes:
        lines: the entries.
        combined: how images are combined; None if they are not.
        indices: whether numbers are indices even where all of them are ids too.
        mask: length of the mask that chose the images; None if there was none.
    """

    lines: list[Line]
    combined: Combined | None
    indices: bool = False
    mask: int | None = None


def read_list_file(path: Path, ids: Container[str]) -> ListFile:
    """Read a text table with one image per row, or a file of indices; see `docs/guides/pruning.md` for the formats.

    Args:
        ids: ids of the training images as a list writes them; a first line that is none of them is a header.

    Raises:
        ConfigError: the file cannot be read, holds no list, or has a comment of a newer version.
        MethodError: a line names no image, an index is negative, or an older fastdc wrote a list of mosaics.
    """
    if path.suffix.lower() == ".parquet":
        table = parquet_table(path)
        return ListFile(lines_of(table, *_places(table)), None)
    if path.suffix.lower() in READERS:
        lines, indices, mask = value_list(path, read_value(path, INDICES))
        return ListFile(lines, None, indices, mask)
    text = read_text(path, EXPECTED)
    combined = _read_comment(path, text)
    table = text_table(path, text, ids, has_key)
    lines = lines_of(table, *_places(table))
    if combined is None:
        _refuse_old_mosaics(path, lines)
    return ListFile(lines, combined)


def _places(table: Table) -> tuple[int, int | None, int | None, int | None]:
    """Return the columns of image, class, score and stored image: those of the header, or the first four."""
    if table.names is None:
        return 0, 1, 2, 3
    key = table.find(KEYS)
    if key is None:
        raise ConfigError(f"{table.path}: has the columns {', '.join(table.names)}, expected one of {', '.join(KEYS)}")
    return key, table.find(CLASSES), None, None


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


def _refuse_old_mosaics(path: Path, lines: list[Line]) -> None:
    """Refuse a list of mosaics of fastdc 0.1, recognised by the manifest of the set beside it.

    That version joined the ids of a mosaic's sources with `+` in the manifest and wrote no comment into the list.
    """
    if not path.name.endswith(LIST_SUFFIX) or not lines:
        return
    manifest = path.with_name(f"{path.name.removesuffix(LIST_SUFFIX)}.json")
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
