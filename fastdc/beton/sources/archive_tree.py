"""List the files of an archive by the names of its members, as a tree of folders."""

import lzma
import posixpath
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from fastdc.beton.sample_order import below, in_imagefolder
from fastdc.beton.sources.trees import Fetch, Listing, is_hidden

Member = TypeVar("Member")
_NAMED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError)
DAMAGE = (*_NAMED, ValueError, TypeError, ArithmeticError, LookupError, NotImplementedError, struct.error)
"""Exceptions that Python's readers raise on damaged files: their own, and any that their parsing code triggers."""


class ArchiveTree(Generic[Member]):
    """Tree of folders and files, built from the names of an archive's members.

    Args:
        source: path of the archive.

    Attributes:
        members: how to read each file, by its path.
        outside: the first name left out because it leads out of the archive's folder; "" if there is none.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.name = source.name
        self.members: dict[str, Member] = {}
        self.outside = ""
        self._folders: dict[str, tuple[dict[str, None], dict[str, None]]] = {"": ({}, {})}
        self._left_out: set[str] = set()
        self._links: dict[str, str] = {}

    def hidden_images(self, root: str) -> Iterator[str]:
        """Yield the images that this tree leaves out; see `Tree`."""
        yield from filter(below(root), self._left_out)
        for link, target in self._links.items():
            folder = posixpath.normpath(posixpath.join(posixpath.dirname(link), target)).lstrip("/")  # as for names
            if folder in self._folders and below(root)(f"{link}/"):
                inner = (name for name in self.members if name.startswith(f"{folder}/") and in_imagefolder(name))
                yield from (link + name[len(folder) :] for name in inner)

    def add_link(self, name: str, target: str) -> None:
        """Record a symbolic link; links to folders are not followed."""
        self._links["/".join(part for part in name.split("/") if part not in ("", "."))] = target

    def add(self, name: str, member: Member | None) -> None:
        """Add a file, or a folder when `member` is None.

        If several members share a name, the last one counts, as in tar.
        """
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            self.outside = self.outside or ("" if member is None else name)
            return
        if any(map(is_hidden, parts)):
            if member is not None and in_imagefolder(name):
                self._left_out.add("/".join(parts))
            return
        for depth in range(len(parts) if member is None else len(parts) - 1):
            self._folders["/".join(parts[:depth])][0][parts[depth]] = None
            self._folders.setdefault("/".join(parts[: depth + 1]), ({}, {}))
        if member is not None and parts:
            self._folders["/".join(parts[:-1])][1][parts[-1]] = None
            self.members["/".join(parts)] = member

    def clear(self) -> dict[str, Member]:
        """Remove all files and folders, and return the files."""
        members, self.members, self._folders = self.members, {}, {"": ({}, {})}
        self._left_out, self._links = set(), {}
        return members

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`. The order is that of `paths`."""
        for number, path in enumerate(paths):
            yield number, partial(self._read, self.members[path])

    def _read(self, member: Member) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        """Release the archive."""

    def list_folder(self, path: str, follow: bool = True) -> Listing:
        """List the folders and files directly in `path`; see `Tree`."""
        folders, files = self._folders[path]
        return Listing(list(folders), [name for name in files if name not in folders])
