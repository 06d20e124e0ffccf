"""A source of any kind, opened: its images found and ready to be read."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fastdc.beton.archives import open_tree
from fastdc.beton.classes import read_class_names
from fastdc.beton.hub import enter_hub_cache, hub_name
from fastdc.beton.shards import is_sharded
from fastdc.beton.sources import Contents, Fetch, list_contents

_ARCHIVE = re.compile(r"(\.(tar|zip|tgz|tbz2?|txz|gz|bz2|xz|zst|parquet))+$")


class Files(Protocol):
    """Where the bytes of a source's images come from: a `Tree`, or parquet shards."""

    name: str

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """See `Tree`."""


class Opened(NamedTuple):
    """A source whose images were found.

    Attributes:
        path: where it lies; for messages, and never written over.
        files: gives the bytes of `contents.paths()`.
        contents: classes and images.
        dataset: the data set's name.
        split: "train", "val", ... or None.
        made: what the manifest's `made` shall say of the source.
    """

    path: Path
    files: Files
    contents: Contents
    dataset: str
    split: str | None
    made: Mapping[str, Any]


@contextmanager
def open_source(
    source: Path,
    split: str | None = None,
    classes: Path | Sequence[str] | None = None,
    allow_missing_classes: bool = False,
) -> Iterator[Opened]:
    """Open an image folder, a tar or zip of one, or parquet shards, and find its images; open for the block.

    Args:
        source: its path. A repository in the Hugging Face hub's cache stands for its snapshot.
        split: "train", "val", ...: needed exactly when the source has splits.
        classes: names of classes 0, 1, ..., or a file with them (see `read_class_names`). Without them parquet shards
            may name their own, and folders are called as their classes.
        allow_missing_classes: a class may have an empty folder or, with `classes`, none. Shards may lack some anyway.

    Raises:
        SourceError: the source cannot be used; see `list_contents`, `open_tree`, `ParquetShards`, `read_class_names`.
        BetonError, ManifestError: see `read_class_names`.
    """
    source = enter_hub_cache(source)
    names = read_class_names(classes) if isinstance(classes, Path) else classes
    if is_sharded(source):
        from fastdc.beton.parquet import ParquetShards

        shards = ParquetShards(source, split, names)
        yield Opened(
            source, shards, shards.contents, _dataset_name(hub_name(source) or shards.name), split, shards.made
        )
        return
    with closing(open_tree(source)) as tree:
        contents = list_contents(tree, source, split, names, allow_missing_classes)
        yield Opened(source, tree, contents, _dataset_name(hub_name(source) or tree.name), split, {})


def _dataset_name(name: str) -> str:
    return _ARCHIVE.sub("", name) or name
