"""Image folders, and archives of them, as one kind of tree: which classes, which images, in which order.

A tree is read as torchvision's ImageFolder reads it: class folders sorted by name, the images in them (and in folders
inside them) sorted by path, only files with the suffix of an image.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from fastdc.errors import SourceError

_COMMON_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
IMAGE_SUFFIXES = frozenset((*_COMMON_SUFFIXES, ".ppm", ".pgm", ".pbm", ".pnm"))
SPLIT_NAMES = ("train", "val", "test", "validation")
JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
MAX_DEPTH = 16
MAX_FILE_BYTES = 1 << 30

Fetch = Callable[[], bytes]


class Listing(NamedTuple):
    """Names directly inside one folder of a tree."""

    folders: list[str]
    files: list[str]


class Tree(Protocol):
    """A folder or an archive. Paths are relative to its root, parts joined by "/"; "" is the root."""

    name: str

    def list_folder(self, path: str, follow: bool = True) -> Listing:
        """Folders and files directly in `path`, hidden ones and system litter left out, in any order.

        With `follow` false, a link to a folder counts as a file: one below a class folder could lead back up and list
        every image many times.
        """

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """For each path its number and a function that reads the file, callable from any thread; in the fastest order.

        The order is the same every time. A function raises SourceError or OSError when the file cannot be read.
        """

    def close(self) -> None:
        """Release the archive."""


class Item(NamedTuple):
    """One image of a source: its path relative to the folder of the class folders, and its class."""

    id: str
    label: int


class Contents(NamedTuple):
    """What a source holds.

    Attributes:
        root: the path inside the tree where the class folders lie.
        classes: names of the classes, sorted.
        items: the images, sorted by class and name.
        ignored: paths of files in class folders that lack an image's suffix.
    """

    root: str
    classes: tuple[str, ...]
    items: list[Item]
    ignored: list[str]

    def path(self, item: Item) -> str:
        """Path of an image inside the tree. Made when asked for: a million paths take 100 MB."""
        return _join(self.root, item.id)


def is_hidden(name: str) -> bool:
    """Whether a name is hidden or litter of an operating system."""
    return name.startswith(".") or name.lower() in JUNK


def is_image(name: str) -> bool:
    """Whether a file has the suffix of an image, in any case."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


class FolderTree:
    """An image folder on disk. Links to class folders are followed, links to folders further down are not.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.resolve().name

    def list_folder(self, path: str, follow: bool = True) -> Listing:
        """See `Tree`.

        Raises:
            SourceError: the folder cannot be read.
        """
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(os.path.join(self.root, path)) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        continue
                    (folders if _is_folder(entry, follow) else files).append(entry.name)
        except OSError as error:
            raise SourceError(f"{self.root / path}: folder cannot be read ({error.strerror})") from error
        return Listing(folders, files)

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """See `Tree`; in the order given."""
        for number, path in enumerate(paths):
            yield number, lambda path=path: read_regular_file(os.path.join(self.root, path))  # type: ignore[misc]

    def close(self) -> None:
        """Nothing is held."""


def _is_folder(entry: "os.DirEntry[str]", follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def read_regular_file(path: str) -> bytes:
    """Read a whole file. Never blocks on a FIFO or device: it is opened without waiting and must be a regular file.

    Raises:
        SourceError: not a regular file, or larger than 1 GiB.
        OSError: it cannot be read; dangling links end here.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise SourceError("not a regular file")
        if info.st_size > MAX_FILE_BYTES:
            raise SourceError(f"{info.st_size} bytes, expected an image of at most {MAX_FILE_BYTES}")
        return read_range(descriptor, 0, info.st_size)
    finally:
        os.close(descriptor)


def read_range(descriptor: int, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`, fewer only at the end of the file."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def list_contents(tree: Tree, source: Path, split: str | None) -> Contents:
    """Find classes and images.

    Args:
        tree: the opened source.
        source: its path, for messages.
        split: "train", "val", ...; needed exactly when the source has such folders.

    Raises:
        SourceError: no class folders, images outside them, a class without images, two classes equal but for case, or
            `split` missing, unknown or not applicable.
    """
    root, splits = _find_root(tree)
    if splits:
        root = _join(root, _choose_split(splits, source, split))
    elif split is not None:
        raise SourceError(f"{source}: has no split folders ({', '.join(SPLIT_NAMES)}); leave --split away")
    listing = tree.list_folder(root)
    classes = tuple(sorted(listing.folders))
    where = f"{source}/{root}" if root else str(source)
    _check_classes(classes, [name for name in listing.files if is_image(name)], where)
    items: list[Item] = []
    ignored: list[str] = []
    for label, name in enumerate(classes):
        files = sorted(_walk(tree, _join(root, name)))
        images = [path for path in files if is_image(path)]
        other = [path for path in files if not is_image(path)]
        if not images:
            found = f"{len(other)} other files, such as {os.path.basename(other[0])}" if other else "it is empty"
            raise SourceError(f"{where}: class {name!r} has no images ({found}); fill or remove its folder")
        start = len(root) + 1 if root else 0
        items += [Item(path[start:], label) for path in images]
        ignored += [path[start:] for path in other]
    return Contents(root, classes, items, ignored)


def _find_root(tree: Tree) -> tuple[str, list[str]]:
    """The folder that holds classes or splits, and the splits. Single outer folders, as archives have, are entered."""
    root = ""
    for _ in range(MAX_DEPTH):
        listing = tree.list_folder(root)
        if _are_splits(tree, root, listing.folders):
            return root, sorted(name for name in listing.folders if name.lower() in SPLIT_NAMES)
        single = len(listing.folders) == 1 and not any(map(is_image, listing.files))
        if (
            not single
            or _has_images(tree, root, listing.folders[0])
            or not _has_folders(tree, root, listing.folders[0])
        ):
            break
        root = _join(root, listing.folders[0])
    return root, []


def _are_splits(tree: Tree, root: str, folders: list[str]) -> bool:
    """Whether these folders are splits, not classes of which one happens to be called "train" or "test"."""
    splits = [name for name in folders if name.lower() in SPLIT_NAMES]
    if not splits or len(splits) == len(folders):
        return bool(splits)
    others_are_classes = any(_has_images(tree, root, name) for name in folders if name not in splits)
    return not others_are_classes and any(_has_folders(tree, root, name) for name in splits)


def _has_folders(tree: Tree, root: str, name: str) -> bool:
    return bool(tree.list_folder(_join(root, name)).folders)


def _has_images(tree: Tree, root: str, name: str) -> bool:
    return any(map(is_image, tree.list_folder(_join(root, name)).files))


def _choose_split(splits: list[str], source: Path, split: str | None) -> str:
    if split is None:
        raise SourceError(f"{source}: has the splits {', '.join(splits)}; choose one with --split")
    wanted = {split, "validation" if split == "val" else split, "val" if split == "validation" else split}
    found = [name for name in splits if name == split] or [name for name in splits if name.lower() in wanted]
    if not found:
        raise SourceError(f"{source}: has no split {split!r}; it has {', '.join(splits)}")
    return found[0]


def _check_classes(classes: tuple[str, ...], stray: list[str], where: str) -> None:
    layout = "expected one folder per class with the images inside (class/image.jpg)"
    if stray:
        example = f"{len(stray)} images lie directly in it, such as {min(stray)}"
        hint = "" if classes else " (a flat validation set has to be sorted into class folders first)"
        raise SourceError(f"{where}: {example}; {layout}{hint}")
    if not classes:
        raise SourceError(f"{where}: holds no folders; {layout}")
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise SourceError(
                f"{where}: class folders {other!r} and {name!r} differ only in case; rename or merge them"
            )


def _walk(tree: Tree, path: str, depth: int = 0) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise SourceError(f"{path}: folders nested deeper than {MAX_DEPTH}; expected images in class folders")
    listing = tree.list_folder(path, follow=False)
    yield from (_join(path, name) for name in listing.files)
    for name in listing.folders:
        yield from _walk(tree, _join(path, name), depth + 1)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
