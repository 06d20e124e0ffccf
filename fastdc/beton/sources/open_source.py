"""Open a source of any kind, and find its images."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fastdc.beton.classes import read_class_names
from fastdc.beton.sources.archives import open_tree
from fastdc.beton.sources.class_folders import Contents, list_contents
from fastdc.beton.sources.hub_cache import enter_hub_cache, hub_name
from fastdc.beton.sources.shards import is_sharded
from fastdc.beton.sources.trees import Fetch

_ARCHIVE = re.compile(r"(\.(tar|zip|tgz|tbz2?|txz|gz|bz2|xz|zst|parquet))+$")


class Files(Protocol):
    """Reader of the bytes of a source's images: a `Tree` or parquet shards."""

    name: str

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`."""


class Opened(NamedTuple):
    """Source whose images have been found.

    Attributes:
        path: path of the source; used in messages, and never overwritten.
        files: reader of the bytes of `contents.paths()`.
        contents: classes and images.
        dataset: the data set's name.
        split: "train", "val", ... or None.
        made: what the manifest's `made` records about the source.
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
    """Open an image folder, a tar or zip of one, or parquet shards, and find its images. It stays open for the block.

    Args:
        source: its path. A repository in the Hugging Face hub's cache stands for its snapshot.
        split: "train", "val", ...; required exactly if the source has splits.
        classes: names of classes 0, 1, ..., or a file that lists them (see `read_class_names`). Without them, parquet
            shards may name their own classes, and folders give their names.
        allow_missing_classes: allow a class with an empty folder or, with `classes`, without one. Parquet shards may
            always lack some classes.

    Raises:
        SourceError: the source is unusable; see `list_contents`, `open_tree`, `ParquetShards`, `read_class_names`.
        BetonError, ManifestError: see `read_class_names`.
    """
    source = enter_hub_cache(source)
    names = read_class_names(classes) if isinstance(classes, Path) else classes
    if is_sharded(source):
        # Imported late: only parquet sources need this module.
        from fastdc.beton.sources.parquet import ParquetShards

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
