"""The interface of a kind of source: how it is recognised, opened, and shown by an example."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from fastdc.beton.images import Rgb
from fastdc.beton.manifest import Manifest
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.hub_cache import hub_name
from fastdc.beton.sources.source_options import SourceOptions

_ARCHIVE = re.compile(r"(\.(tar|zip|tgz|tbz2?|txz|gz|bz2|xz|zst|parquet|npz|pt|pth))+$")


FetchImage = Callable[[], bytes | Rgb]
"""Reader of one image: the bytes of its file, or pixels uint8 [H, W, 3] of a source without files."""


class Files(Protocol):
    """Reader of a source's images: a `Tree`, parquet shards, arrays."""

    name: str

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, FetchImage]]:
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
        exported: manifest of the exported set that the source is, which is restored whole; None for any other source.
    """

    path: Path
    files: Files
    contents: Contents
    dataset: str
    split: str | None
    made: Mapping[str, Any]
    exported: Manifest | None = None


class Source(ABC):
    """Base class of kinds of sources; each is one file in `fastdc/beton/sources/kinds`, or a plug-in.

    Attributes:
        name: lower-case letters, digits, - and _.
        title: one line for lists: the layout.
        reads: options that only some kinds read, and this one does; see `SourceOptions`.
        rank: place in the order in which kinds are tried, lowest first. Plug-ins come before fastdc's own kinds.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    rank: ClassVar[int] = 0

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Return whether a path has this layout, by a look at names; a damaged source is recognised too."""

    @abstractmethod
    def open(self, path: Path, options: SourceOptions) -> AbstractContextManager[Opened]:
        """Open a recognised source and find its images. It stays open for the block.

        Raises:
            SourceError: the source is unusable; also raised by the readers of its files.
        """

    @abstractmethod
    def example(self, folder: Path) -> Path:
        """Write a small source of this layout, without splits, into an empty folder and return its path.

        `fastdc check` reads it. `fastdc.beton.sources.example_images` makes images for it.
        """


def dataset_name(source: Path, name: str) -> str:
    """Return the name of the data set in a source: that of the hub's repository, or `name` without suffixes."""
    name = hub_name(source) or name
    return _ARCHIVE.sub("", name) or name
