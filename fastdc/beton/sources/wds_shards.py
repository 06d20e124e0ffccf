"""Recognise tars of WebDataset samples, list their shards, and find class names beside them.

    train-000000.tar  train-000001.tar  val-000000.tar       a folder; the split is a word of the name
    train-{000000..000012}.tar                               a pattern of numbers
    000000.jpg  000000.cls  000001.jpg  000001.cls           inside: the files of a sample have one key

Source: webdataset, "The WebDataset format".
"""

import json
import re
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fastdc.beton.classes import read_class_names
from fastdc.beton.sources.archive_tree import DAMAGE
from fastdc.beton.sources.shards import check_pointer, find_shards, is_sharded, list_paths
from fastdc.beton.sources.tar_trees import STREAM_BLOCK, StrictMember, forget_headers
from fastdc.beton.sources.trees import IMAGE_SUFFIXES, is_hidden
from fastdc.beton.texts import one_spelling
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line

TARS = (".tar", ".tar.gz", ".tgz")
LABELS = ("cls", "cls.txt", "class", "class.txt", "label", "label.txt", "json")
"""Suffixes of files with a label, the first of which in a sample counts."""
_PATTERN = re.compile(r"(?P<start>.*)\{(?P<first>\d+)\.\.(?P<last>\d+)\}(?P<end>.*)")
_KEY = re.compile(r"(?P<key>(?:.*/)?[^/.]+)\.(?P<suffix>[^/]+)")
_FIRST_SHARDS, _FIRST_MEMBERS = 4, 100  # a shard may be damaged
_MAX_SHARDS = 100_000


class Part(NamedTuple):
    """File of a sample: its key and suffix ("a/0001", "jpg"), and its header in the tar."""

    key: str
    suffix: str
    member: tarfile.TarInfo


def is_webdataset(source: Path) -> bool:
    """Return whether a path is a tar of samples, a folder of such tars, or a pattern of their names."""
    if not source.exists():
        return bool(_PATTERN.fullmatch(source.name)) and source.name.lower().endswith(TARS)
    if not is_sharded(source, TARS):
        return False
    try:
        tars = [source / path for path in list_paths(source, TARS)[:_FIRST_SHARDS]] if source.is_dir() else [source]
    except SourceError:  # let the reader of image folders report an unreadable folder
        return False
    return any(map(_holds_samples, tars))


def _holds_samples(path: Path) -> bool:
    """Return whether a label stands beside an image among the first files of a tar.

    A `.json` counts only if all images lie in one folder, because class folders may hold annotations, too.
    """
    images, labels, folders = set(), set(), set()
    try:
        with open_tar(path) as archive:
            for part in islice(read_parts(archive), _FIRST_MEMBERS):
                if is_picture(part.suffix):
                    images.add(part.key)
                    folders.add(part.key.rpartition("/")[0])
                elif part.suffix in LABELS:
                    labels.add((part.key, part.suffix))
    except SourceError:  # `open` raises it again
        return True
    except (OSError, *DAMAGE):
        pass  # what could be read decides
    return any(key in images and (suffix != "json" or len(folders) == 1) for key, suffix in labels)


def open_tar(path: Path) -> tarfile.TarFile:
    """Open a tar to read its members once, from front to back; a plain one is not read between them.

    Raises:
        tarfile.TarError, OSError: it is no tar.
        SourceError: it is a Git LFS pointer.
    """
    check_pointer(path)
    if is_plain(path):
        return tarfile.open(path, "r:", tarinfo=StrictMember)
    return tarfile.open(path, "r|*", bufsize=STREAM_BLOCK, tarinfo=StrictMember)


def is_plain(path: Path) -> bool:
    """Return whether the name of a tar is that of an uncompressed one."""
    return path.name.lower().endswith(".tar")


def read_parts(archive: tarfile.TarFile) -> Iterator[Part]:
    """Yield the files of all samples, in the archive's order.

    Hidden names and those of WebDataset's own files (`__NAME__`) are left out, as are names that lead out of the tar.
    """
    for member in archive:
        forget_headers(archive)
        name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
        match = _KEY.fullmatch(name)
        left_out = any(part.startswith("__") or part == ".." or is_hidden(part) for part in name.split("/"))
        if match and member.isreg() and not member.issparse() and not left_out:
            yield Part(match["key"], match["suffix"].lower(), member)


def is_picture(suffix: str) -> bool:
    """Return whether a suffix ("jpg", "left.png") is that of an image."""
    return f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES


def list_shards(source: Path, split: str | None) -> tuple[Path, list[str]]:
    """Return a folder and the names of its shards of one split, in order.

    Raises:
        SourceError: `split` is missing, unknown or not applicable; a shard of a pattern does not exist.
    """
    if source.is_dir():
        return source, find_shards(source, split, TARS)
    names = [source.name] if source.exists() else _expand(source)
    find_shards(source.with_name(names[0]), split, TARS)  # only checks the split
    lacking = next((name for name in names if not source.with_name(name).is_file()), None)
    if lacking is not None:
        raise SourceError(f"{source}: {lacking} does not exist, of {len(names)} shards; get it, or correct the numbers")
    return source.parent, names


def _expand(source: Path) -> list[str]:
    match = _PATTERN.fullmatch(source.name)
    if match is None or "{" in match["start"] + match["end"]:
        raise SourceError(f"{source}: expected one pattern of numbers, such as train-{{0000..0012}}.tar")
    first, last, width = int(match["first"]), int(match["last"]), len(match["first"])
    if not 0 <= last - first < _MAX_SHARDS:
        raise SourceError(f"{source}: runs from {first} to {last}, expected at most {_MAX_SHARDS:,} rising numbers")
    return [f"{match['start']}{number:0{width}d}{match['end']}" for number in range(first, last + 1)]


def names_beside(folder: Path) -> tuple[str, ...] | None:
    """Return class names from `classes.txt` or `dataset.json` beside shards; None if there are none.

    Raises:
        SourceError: one of these files cannot be read.
    """
    if (folder / "classes.txt").is_file():
        return read_class_names(folder / "classes.txt")
    path = folder / "dataset.json"
    return _names_in(path) if path.is_file() else None


def _names_in(path: Path) -> tuple[str, ...] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path}: cannot be read as JSON ({one_line(error)}); repair it or move it away") from error
    content = content if isinstance(content, dict) else {}
    found = next((content[name] for name in ("classes", "class_names") if name in content), None)
    found = found if isinstance(found, list) else []
    return tuple(map(one_spelling, found)) if found and all(isinstance(name, str) for name in found) else None
