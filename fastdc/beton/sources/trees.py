"""List and read the files of an image folder, by an interface (`Tree`) that archives share."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from fastdc.beton.positioned_io import read_range
from fastdc.beton.sample_order import below, in_imagefolder
from fastdc.common.errors import SourceError

_COMMON_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
IMAGE_SUFFIXES = frozenset((*_COMMON_SUFFIXES, ".ppm", ".pgm", ".pbm", ".pnm"))
_WINDOWS = ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information")
_MAC_AND_LINUX = ("__macosx", "network trash folder", "temporary items", "lost+found", "__pycache__")
_NAS = ("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb", "~snapshot")
JUNK = frozenset((*_WINDOWS, *_MAC_AND_LINUX, *_NAS))
"""Litter of operating systems and of network storage (Synology, QNAP, NetApp), besides names that begin with a dot.

Some of it contains images: thumbnails of those beside it, or deleted files.
"""
MAX_DEPTH = 16
MAX_FILE_BYTES = 1 << 30

Fetch = Callable[[], bytes]


class Listing(NamedTuple):
    """Names directly inside one folder of a tree."""

    folders: list[str]
    files: list[str]


@dataclass(frozen=True, slots=True)
class FileFetch:
    """Reader of the file at `path`; see `read_regular_file`."""

    path: str

    def __call__(self) -> bytes:
        return read_regular_file(self.path)


class Tree(Protocol):
    """Interface of a folder or an archive.

    Paths are relative to its root, with parts joined by "/"; "" is the root.
    """

    name: str

    def hidden_images(self, root: str) -> Iterator[str]:
        """Yield images below `root` that this tree leaves out and torchvision's ImageFolder does not.

        They are hidden, litter, or behind a link to a folder. Call this only after listing the folders below `root`.
        """

    def list_folder(self, path: str, follow: bool = True) -> Listing:
        """List folders and files directly in `path`, in any order, without hidden ones and system litter.

        If `follow` is false, a link to a folder counts as a file. Otherwise a link below a class folder could lead back
        up, and every image would be listed many times.
        """

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield each path's index and a function that reads the file, in the order that reads fastest.

        The order is the same every time. The function may be called in any thread, and raises SourceError or OSError if
        the file cannot be read.
        """

    def close(self) -> None:
        """Release the archive."""


def is_hidden(name: str) -> bool:
    """Return whether a name is hidden, or litter of an operating system or of network storage."""
    return name.startswith(".") or name.lower() in JUNK


def is_image(name: str) -> bool:
    """Return whether a file has an image's suffix, in any case."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


class FolderTree:
    """Image folder on disk. Links to class folders are followed; links to folders further down are not.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.resolve().name
        self._left_out: set[str] = set()

    def hidden_images(self, root: str) -> Iterator[str]:
        """Yield the images that this tree leaves out; see `Tree`."""
        start = len(os.path.join(self.root, ""))
        for path in sorted(self._left_out):
            if root and not path.startswith(f"{root}/"):
                continue
            full = os.path.join(self.root, path)
            walk = os.walk(full, followlinks=True) if os.path.isdir(full) else [("", [], [full])]
            files = (os.path.join(folder, name)[start:] for folder, _, names in walk for name in names)
            yield from filter(in_imagefolder, filter(below(root), files))

    def list_folder(self, path: str, follow: bool = True) -> Listing:
        """List the folders and files directly in `path`; see `Tree`.

        Raises:
            SourceError: the folder cannot be read.
        """
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(os.path.join(self.root, path)) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        self._left_out.add(join(path, entry.name))
                        continue
                    # ImageFolder follows every link, so those not followed here count as left out.
                    if entry.is_symlink() and _is_folder(entry, follow=True):
                        (self._left_out.discard if follow else self._left_out.add)(join(path, entry.name))
                    (folders if _is_folder(entry, follow) else files).append(entry.name)
        except OSError as error:
            raise SourceError(f"{self.root / path}: folder cannot be read ({error.strerror})") from error
        return Listing(folders, files)

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`. The order is that of `paths`."""
        prefix = os.path.join(self.root, "")
        for number, path in enumerate(paths):
            yield number, FileFetch(prefix + path)

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _is_folder(entry: "os.DirEntry[str]", follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def read_regular_file(path: str) -> bytes:
    """Read a whole regular file. A FIFO or device raises an error instead of blocking, because the open does not wait.

    Raises:
        SourceError: the file is not a regular file, or is larger than 1 GiB.
        OSError: the file cannot be read; dangling links raise this.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise SourceError("not a regular file")
        check_size(info.st_size)
        return read_range(descriptor, 0, info.st_size)
    finally:
        os.close(descriptor)


def check_size(size: int) -> None:
    """Refuse a file that is too large for an image.

    Raises:
        SourceError: `size`, in bytes, is above 1 GiB.
    """
    if size > MAX_FILE_BYTES:
        raise SourceError(f"{size} bytes, expected an image of at most {MAX_FILE_BYTES}")


def join(folder: str, name: str) -> str:
    """Return the path of a name in a folder of a tree."""
    return f"{folder}/{name}" if folder else name
