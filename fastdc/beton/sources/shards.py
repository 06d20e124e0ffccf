"""Find shards in the layouts of the Hugging Face hub: the files of a split, and whether they are complete.

    data/train-00000-of-00007.parquet  data/validation-00000-of-00001.parquet    SPLIT-NUMBER-of-TOTAL
    train/0000.parquet  test/0000.parquet                                        a folder per split
    photos_train_1.parquet                                                       the split as one word of the name

This module opens no shard, so pyarrow is needed only if there are any.
"""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fastdc.beton.sources.splits import SPLIT_NAMES, check_own_split, choose_split
from fastdc.beton.sources.trees import is_hidden, is_image
from fastdc.common.errors import SourceError

PARQUET = (".parquet",)
_METADATA = "metadata.parquet"  # captions and the like, beside the images of an image folder
_MAX_DEPTH = 4
_MAX_FOLDERS = 64  # image folders may have more; repositories of shards do not
# The hub appends a hash to some names: train-00000-of-00001-0123456789abcdef.parquet.
_NUMBERED = re.compile(r"(?P<prefix>.+)-(?P<number>\d+)-of-(?P<total>\d+)(-[0-9a-f]+)?")


class Shard(NamedTuple):
    """One shard: its path relative to the source, its split (None if it names none), and "NUMBER of TOTAL"."""

    path: str
    split: str | None
    number: int | None
    total: int | None


def is_sharded(source: Path, suffixes: tuple[str, ...] = PARQUET) -> bool:
    """Return whether `source` is a shard, or a folder whose shards are not strays in an image folder.

    Strays lie among images, or above two or more folders with images: class folders, or splits of them.
    """
    if not source.is_dir():
        return _is_shard(source.name, suffixes) and source.is_file()
    try:
        sharded, pictured = [], []
        for folder, files in islice(_walk(source, 2), _MAX_FOLDERS):
            if any(map(is_image, files)):
                pictured.append(folder)
            elif any(_is_shard(name, suffixes) for name in files):
                sharded.append(folder)
        return any(sum(other.startswith(f"{folder}/") for other in pictured) < 2 for folder in sharded)
    except SourceError:  # let the reader of image folders report an unreadable folder, if it matters
        return False


def find_shards(source: Path, split: str | None, suffixes: tuple[str, ...] = PARQUET) -> list[str]:
    """Return the sorted paths, relative to the folder, of the shards of one split; for a single file, its name.

    Args:
        source: a folder, or one shard.
        suffixes: ends of the shards' names.
        split: "train", "val", ..., an alias, or the name that the shards use; required exactly if the shards name
            splits. A single file needs none.

    Raises:
        SourceError: `split` is missing, unknown or not applicable; a shard is missing; or the shards lie in several
            folders, which usually are several data sets.
    """
    if not source.is_dir():
        return [_single_file(source, split, suffixes)]
    shards = [_describe(path, suffixes) for path in list_paths(source, suffixes)]
    chosen = _choose(shards, split, source)
    _check_folders(chosen, source)
    _check_numbers(chosen, source)
    return [shard.path for shard in chosen]


def list_paths(folder: Path, suffixes: tuple[str, ...] = PARQUET) -> list[str]:
    """Return the sorted paths, relative to a folder, of all visible shards in it.

    Raises:
        SourceError: a folder in it cannot be read.
    """
    found = (os.path.join(inner, name) for inner, files in _walk(folder, _MAX_DEPTH) for name in files)
    return [os.path.relpath(path, folder) for path in sorted(found) if _is_shard(path, suffixes)]


def split_of(path: str, suffixes: tuple[str, ...] = PARQUET) -> str | None:
    """Return the split that `find_shards` requires for the shards of one set, from the path of one; None for none."""
    split = _describe(path, suffixes).split
    return split if split in SPLIT_NAMES else None


def check_pointer(path: Path) -> None:
    """Refuse what Git leaves in the place of a shard that it keeps elsewhere.

    Raises:
        SourceError: the file is a Git LFS pointer.
    """
    with path.open("rb") as handle:
        if handle.read(40).startswith(b"version https://git-lfs"):
            raise SourceError(f"{path}: is a Git LFS pointer, not the shard itself; run git lfs pull")


def _single_file(source: Path, split: str | None, suffixes: tuple[str, ...]) -> str:
    check_own_split(_describe(source.name, suffixes).split, split, source)
    return source.name


def _is_shard(path: str, suffixes: tuple[str, ...]) -> bool:
    name = os.path.basename(path).lower()
    return name.endswith(suffixes) and name != _METADATA


def _walk(root: Path, depth: int) -> Iterator[tuple[str, list[str]]]:
    """Yield folders down to `depth` levels below `root`, breadth first, each with its visible files."""
    level = [str(root)]
    for _ in range(depth + 1):
        deeper: list[str] = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    visible = [entry for entry in entries if not is_hidden(entry.name)]
                deeper += sorted(entry.path for entry in visible if entry.is_dir(follow_symlinks=False))
                yield folder, [entry.name for entry in visible if entry.is_file()]
            except OSError as error:
                raise SourceError(f"{folder}: folder cannot be read ({error.strerror})") from error
        level = deeper


def _describe(path: str, suffixes: tuple[str, ...]) -> Shard:
    """Parse the split and the number out of a shard's path.

    Words of the file name have priority over those of its folders, and near folders over far ones.
    """
    name = os.path.basename(path)
    stem = next((name[: -len(suffix)] for suffix in suffixes if name.lower().endswith(suffix)), name)
    numbered = _NUMBERED.fullmatch(stem)
    prefix = numbered["prefix"] if numbered else stem
    parts = [prefix, *reversed(os.path.dirname(path).split("/"))]
    words = (word for part in parts for word in re.split("[^a-z]+", part.lower()) if word in SPLIT_NAMES)
    split = next(words, prefix if numbered else None)
    return Shard(path, split, *(map(int, numbered.group("number", "total")) if numbered else (None, None)))


def _choose(shards: list[Shard], split: str | None, source: Path) -> list[Shard]:
    names = sorted({shard.split for shard in shards if shard.split is not None})
    if not SPLIT_NAMES.intersection(names) and len(names) < 2:
        names = []  # part-00000-of-00007: one set, whatever its prefix
    if split is not None and not names:
        raise SourceError(f"{source}: the shards name no splits, but {split!r} was requested; omit --split")
    if not names:
        return shards
    chosen = choose_split(names, split, source)
    return [shard for shard in shards if shard.split == chosen]


def _check_folders(shards: list[Shard], source: Path) -> None:
    folders = sorted({os.path.dirname(shard.path) for shard in shards})
    if len(folders) > 1:
        named = ", ".join(folder or "." for folder in folders)
        raise SourceError(
            f"{source}: shards in several folders ({named}), expected one data set; give one of them as source"
        )


def _check_numbers(shards: list[Shard], source: Path) -> None:
    """Refuse an incomplete download, or a mixture of two."""
    numbered = [shard for shard in shards if shard.total is not None]
    totals = sorted({shard.total for shard in numbered if shard.total is not None})
    if len(totals) > 1:
        raise SourceError(
            f"{source}: shards of {totals[0]} and of {totals[1]} together, such as {numbered[0].path}; "
            "keep those of one version"
        )
    seen: dict[int | None, str] = {}
    for shard in numbered:
        other = seen.setdefault(shard.number, shard.path)
        if other != shard.path:
            raise SourceError(f"{source}: {other} and {shard.path} have the same number; keep those of one version")
    total = totals[0] if totals else 0
    first = next((number for number in range(total) if number not in seen), None)
    if first is not None:
        missing = total - sum(number in range(total) for number in seen)
        found = f"{missing} of {total} shards are missing, the first is number {first:05d}"
        raise SourceError(f"{source}: {found} (beside {numbered[0].path}); download them again")
