"""Open a source of any kind, and find its images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from fastdc.beton.classes import read_class_names
from fastdc.beton.sources.source import Opened, Source
from fastdc.common.errors import SourceError
from fastdc.common.registry import Registry

ENTRY_POINT_GROUP = "fastdc.sources"


@cache
def sources() -> Registry[Source]:
    """Return the kinds of sources of `fastdc.beton.sources.kinds`, then those of other packages."""
    registry: Registry[Source] = Registry("source", Source, lambda source: source.name, SourceError)
    registry.load_folder("fastdc.beton.sources.kinds")
    registry.load_plugins(ENTRY_POINT_GROUP)
    return registry


def source_of(path: Path) -> Source:
    """Return the kind that recognises a path: a plug-in, or one of fastdc's own, the last of which takes any path.

    Raises:
        SourceError: a plug-in fails at the path.
    """
    in_order = sorted(sources().parts.values(), key=lambda source: (source.rank, source.name))
    return next(source for source in in_order if _recognises(source, path))


def _recognises(source: Source, path: Path) -> bool:
    try:
        return source.recognises(path)
    except Exception as error:  # third-party code may raise anything
        place = sources().places[source.name]
        raise SourceError(f"{path}: source '{source.name}' ({place}) cannot look at it: {error!r}") from error


@contextmanager
def open_source(
    source: Path,
    split: str | None = None,
    classes: Path | Sequence[str] | None = None,
    allow_missing_classes: bool = False,
) -> Iterator[Opened]:
    """Open an image folder, a tar or zip of one, parquet shards, or what a plug-in recognises, and find its images.

    It stays open for the block.

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
    kind = source_of(source)
    names = read_class_names(classes) if isinstance(classes, Path) else classes
    with kind.open(source, split, names, allow_missing_classes) as opened:
        yield opened
