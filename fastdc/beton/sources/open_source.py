"""Open a source of any kind, and find its images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path

from fastdc.beton.sources.returned import bring_back, exported_options, find_inner_record, find_record
from fastdc.beton.sources.source import Opened, Source
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.common.errors import SourceError
from fastdc.common.registry import Registry

ENTRY_POINT_GROUP = "fastdc.sources"
COMMON = ("split", "classes", "allow_missing_classes")
"""Options that every kind reads."""
DEFAULTS = SourceOptions()


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
def open_source(source: Path, options: SourceOptions = DEFAULTS) -> Iterator[Opened]:
    """Open a source of fastdc's own kinds, or what a plug-in recognises, and find its images.

    It stays open for the block. An exported set is restored unchanged; see `bring_back`.

    Args:
        source: its path. A repository in the Hugging Face hub's cache stands for its snapshot.
        options: split, classes and the like.

    Raises:
        SourceError: the source is unusable, or of a kind that does not read one of the options.
        ManifestError: see `find_record`.
    """
    kind = source_of(source)
    _check_options(kind, source, options)
    record = find_record(source)
    own = options if record is None else exported_options(source, record, options)
    with kind.open(source, own) as opened:
        record = record or find_inner_record(opened)
        if record is None:
            yield opened
            return
        exported_options(source, record, options)
        yield bring_back(opened, record)


def _check_options(kind: Source, source: Path, options: SourceOptions) -> None:
    for name in (item.name for item in fields(options)):
        if name not in (*COMMON, *kind.reads) and getattr(options, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise SourceError(f"{source}: {flag} has no effect on a source of kind {kind.name}; leave it out")
