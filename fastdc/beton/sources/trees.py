"""Find classes and images in image folders and in archives of them, which share one interface (`Tree`).

A tree is read in the order of torchvision's ImageFolder: class folders sorted by name; inside each, folders sorted by
path; inside each of those, files sorted by name. Only files with an image's suffix count. `Contents.order` records
whether ImageFolder reads exactly the same files.
"""

import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.sample_order import Order, below, in_imagefolder
from fastdc.beton.texts import Texts, one_spelling, show_spelling
from fastdc.common.errors import SourceError
from fastdc.common.text import printable

_COMMON_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
IMAGE_SUFFIXES = frozenset((*_COMMON_SUFFIXES, ".ppm", ".pgm", ".pbm", ".pnm"))
SPLIT_ALIASES = (("train", "training"), ("val", "valid", "validation", "validate", "eval"), ("test", "testing"))
"""Common names for the folder of a split; the names in one row are equivalent."""
SPLIT_NAMES = frozenset(name for row in SPLIT_ALIASES for name in row)
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


class Item(NamedTuple):
    """One image of a source: its path relative to the folder that holds the class folders, and its class."""

    id: str
    label: int


class Items(Sequence[Item]):
    """Images of a source, sorted by class: a compact sequence of their paths, and the end of each class in it.

    Args:
        ids: path of every image, relative to the folder that holds the class folders.
        ends: per class, the number of images in it and in all classes before it.
    """

    def __init__(self, ids: Texts, ends: Sequence[int]) -> None:
        self.ids = ids
        self._ends = ends

    def label(self, number: int) -> int:
        """Return the class of image `number`."""
        return bisect_right(self._ends, number)  # "right" steps over empty classes, whose ends are equal

    def labels(self, start: int, count: int) -> NDArray[np.int64]:
        """Return the classes of images `start` to `start + count - 1`, int64 [count]."""
        return np.searchsorted(self._ends, np.arange(start, start + count), "right")

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return Item(self.ids[index], self.label(range(len(self))[index]))


class Contents(NamedTuple):
    """Classes and images of a source.

    Attributes:
        root: path inside the tree of the folder that holds the class folders.
        classes: names of the classes in one spelling (`one_spelling`), in the order of their folders' own names.
        items: the images, sorted by class and name.
        ignored: paths of files in class folders that lack an image's suffix.
        empty: classes without images, if those are allowed.
        order: "imagefolder" if torchvision's ImageFolder lists the same images in the same order.
    """

    root: str
    classes: tuple[str, ...]
    items: Items
    ignored: list[str]
    empty: frozenset[int] = frozenset()
    order: Order = "own"

    def path(self, item: Item) -> str:
        """Return the path of an image inside the tree."""
        return _join(self.root, item.id)

    def paths(self) -> Iterator[str]:
        """Yield the paths of all images inside the tree; a list of a million would take 100 MB."""
        return (_join(self.root, name) for name in self.items.ids)


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
                        self._left_out.add(_join(path, entry.name))
                        continue
                    # ImageFolder follows every link, so those not followed here count as left out.
                    if entry.is_symlink() and _is_folder(entry, follow=True):
                        (self._left_out.discard if follow else self._left_out.add)(_join(path, entry.name))
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


class FileFetch:
    """Callable that reads one file of the file system; see `read_regular_file`.

    Args:
        path: the file.
    """

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> bytes:
        return read_regular_file(self.path)


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
        if info.st_size > MAX_FILE_BYTES:
            raise SourceError(f"{info.st_size} bytes, expected an image of at most {MAX_FILE_BYTES}")
        return read_range(descriptor, 0, info.st_size)
    finally:
        os.close(descriptor)


def read_range(descriptor: int, offset: int, size: int) -> bytes:
    """Read `size` bytes from `offset`; fewer only at the end of the file."""
    data = os.pread(descriptor, size, offset)  # may return less than it was asked for
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def list_contents(
    tree: Tree,
    source: Path,
    split: str | None,
    classes: Sequence[str] | None = None,
    allow_missing: bool = False,
) -> Contents:
    """Find the classes and images of a tree.

    A folder with a name in `SPLIT_ALIASES` is a split if it holds class folders, whatever lies beside it. If it holds
    images directly, it is a class of that name.

    Args:
        tree: the opened source.
        source: its path, for messages.
        split: "train", "val", ..., an alias of the folder's name, or the name of any folder that holds class folders;
            required exactly if the source has folders named like splits.
        classes: names of classes 0, 1, ...; None takes the folders' names, sorted.
        allow_missing: allow classes without images: their folder is empty or, with `classes`, does not exist.

    Raises:
        SourceError: there are no class folders, images outside them, a class without images, two classes that differ
            only in case or spelling, or folders one level too high to be classes; `split` is missing, unknown or not
            applicable; or a folder is not one of `classes`.
    """
    return list_classes(tree, source, _find_root(tree, source, split), classes, allow_missing)


def list_classes(
    tree: Tree, source: Path, root: str, classes: Sequence[str] | None = None, allow_missing: bool = False
) -> Contents:
    """Find the classes and images of folder `root` of a tree, which holds the class folders; see `list_contents`.

    Raises:
        SourceError: see `list_contents`.
    """
    listing = tree.list_folder(root)
    folders = tuple(sorted(listing.folders))
    where = f"{source}/{root}" if root else str(source)
    _check_classes(folders, [name for name in listing.files if is_image(name)], where)
    names = folders if classes is None else _match_classes(folders, classes, allow_missing, where)
    present = frozenset(folders)
    contents, inner = _list_images(tree, root, names, present, allow_missing, where)
    _check_nesting(names, inner, where)
    same = contents.order == "imagefolder" and folders == tuple(name for name in names if name in present)
    return contents if same and not any(tree.hidden_images(root)) else contents._replace(order="own")


def _match_classes(
    folders: tuple[str, ...], classes: Sequence[str], allow_missing: bool, where: str
) -> tuple[str, ...]:
    """Return the folder of each requested class; for a class without a folder, its name."""
    classes = tuple(map(one_spelling, classes))
    printed = {one_spelling(printable(name)): name for name in folders}  # spelled as in a manifest
    unknown = sorted(set(printed) - set(classes))
    if unknown:
        raise SourceError(
            f"{where}: folder {unknown[0]!r} is none of the {len(classes)} classes that --classes names "
            f"({len(unknown)} such folders); remove them, or name these classes too"
        )
    missing = sorted(set(classes) - set(printed))
    if missing and not allow_missing:
        raise SourceError(
            f"{where}: has no folder of class {missing[0]!r}, which --classes names ({len(missing)} are missing); add "
            "them, or keep them as classes without images with --allow-missing-classes"
        )
    return tuple(printed.get(name, name) for name in classes)


def _list_images(
    tree: Tree, root: str, classes: tuple[str, ...], folders: frozenset[str], allow_missing: bool, where: str
) -> tuple[Contents, list[set[str]]]:
    """Return the images of all classes and, per class, its inner folders that hold some."""
    ends: list[int] = []
    ignored: list[str] = []
    inner: list[set[str]] = []
    plain = True
    lacking: SourceError | None = None

    def images_of_all() -> Iterator[str]:
        nonlocal plain, lacking
        for name in classes:
            images, other = _list_class(tree, root, name) if name in folders else ([], [])
            if not images and not allow_missing:
                lacking = lacking or _no_images(name, other, where)
            plain = plain and all(map(in_imagefolder, images))
            inner.append(_inner_folders(images, len(name) + 1))
            ends.append(len(images) + (ends[-1] if ends else 0))
            ignored.extend(other)
            yield from images

    ids = Texts.of(images_of_all())
    if not ids:
        found = f" ({len(ignored)} other files, such as {ignored[0]})" if ignored else ""
        raise SourceError(
            f"{where}: none of its {len(classes)} class folders has images{found}, expected class/image.jpg"
        )
    if lacking is not None:
        raise lacking
    empty = frozenset(np.flatnonzero(np.diff(ends, prepend=0) == 0).tolist())
    order: Order = "imagefolder" if plain else "own"
    return Contents(root, tuple(map(one_spelling, classes)), Items(ids, ends), ignored, empty, order), inner


def _no_images(name: str, other: list[str], where: str) -> SourceError:
    found = f"{len(other)} other files, such as {os.path.basename(other[0])}" if other else "it is empty"
    return SourceError(
        f"{where}: class {name!r} has no images ({found}); fill or remove its folder, or keep it as a class without "
        "images with --allow-missing-classes"
    )


def _list_class(tree: Tree, root: str, name: str) -> tuple[list[str], list[str]]:
    """Return the paths, relative to `root`, of one class's images and other files, both in ImageFolder's order."""
    start = len(root) + 1 if root else 0
    images: list[str] = []
    other: list[str] = []
    for folder, files in sorted(_walk(tree, _join(root, name))):  # by whole path: "a-b" comes before "a/b"
        for file in sorted(files):
            (images if is_image(file) else other).append(_join(folder, file)[start:])
    return images, other


def _find_root(tree: Tree, source: Path, split: str | None) -> str:
    """Return the folder that holds the class folders. Single outer folders, which archives often have, are entered.

    Raises:
        SourceError: `split` is required but missing, unknown, or not applicable.
    """
    root = ""
    for _ in range(MAX_DEPTH):
        listing = tree.list_folder(root)
        splits = [name for name in listing.folders if _is_split(tree, root, name)]
        if split is not None:
            found = match_split(listing.folders, split, source)
            if found and (splits or _holds_classes(tree, root, found)):
                return _join(root, found)
        if splits:
            raise no_such_split(source, [name for name in listing.folders if name.lower() in SPLIT_NAMES], split)
        single = len(listing.folders) == 1 and not any(map(is_image, listing.files))
        if not single or not _is_outer(tree.list_folder(_join(root, listing.folders[0]))):
            break
        root = _join(root, listing.folders[0])
    if split is not None:
        where = f"{source}/{root}" if root else str(source)
        raise SourceError(
            f"{where}: no folder {split!r} with class folders in it, expected split/class/image.jpg; if the folders "
            "there are the classes, leave --split away"
        )
    return root


def no_such_split(source: Path, names: Sequence[str], split: str | None) -> SourceError:
    """Return the error for a `split` that is missing (None), or none of the splits `names`."""
    listed = ", ".join(sorted(names))
    if split is None:
        one = f"has one split, {listed}; add --split {listed}"
        return SourceError(
            f"{source}: {one if len(names) == 1 else f'has the splits {listed}; choose one with --split'}"
        )
    if len(names) == 1:
        return SourceError(f"{source}: has no split {split!r}, only {listed}; give the folder or archive that has it")
    return SourceError(f"{source}: has no split {split!r}; it has {listed}")


def _is_outer(listing: Listing) -> bool:
    return bool(listing.folders) and not any(map(is_image, listing.files))


def match_split(folders: list[str], split: str, source: Path) -> str | None:
    """Return the folder that matches `split` exactly, in another case, or by an alias; None if there is none.

    Raises:
        SourceError: several folders match.
    """
    exact = [name for name in folders if name == split]
    same = [name for name in folders if name.lower() == split.lower()]
    row = next((row for row in SPLIT_ALIASES if split.lower() in row), ())
    found = exact or same or sorted(name for name in folders if name.lower() in row)
    if len(found) > 1:
        raise SourceError(f"{source}: split {split!r} may be {' or '.join(found)}; give one of these to --split")
    return found[0] if found else None


def _is_split(tree: Tree, root: str, name: str) -> bool:
    """Return whether a folder is named like a split and holds classes, not splits: test.tar may hold test/train."""
    path = _join(root, name)
    return (
        name.lower() in SPLIT_NAMES
        and _holds_classes(tree, root, name)
        and not any(
            inner.lower() in SPLIT_NAMES and _holds_classes(tree, path, inner)
            for inner in tree.list_folder(path).folders
        )
    )


def _holds_classes(tree: Tree, root: str, name: str) -> bool:
    """Return whether this folder's folders hold images. Images beside those folders are an error, reported later."""
    path = _join(root, name)
    return any(_holds_images(tree, _join(path, inner)) for inner in tree.list_folder(path).folders)


def _holds_images(tree: Tree, path: str, depth: int = 0) -> bool:
    if depth > MAX_DEPTH:
        return False
    listing = tree.list_folder(path, follow=False)
    return any(map(is_image, listing.files)) or any(
        _holds_images(tree, _join(path, name), depth + 1) for name in listing.folders
    )


def _inner_folders(images: list[str], start: int) -> set[str]:
    """Return the folders inside a class folder that hold its images; empty if the class folder itself holds some."""
    if any("/" not in path[start:] for path in images):
        return set()
    return {os.path.dirname(path[start:]) for path in images}


def _check_nesting(classes: tuple[str, ...], inner: list[set[str]], where: str) -> None:
    """Refuse folders that only look like classes: splits with unknown names, or an outer folder.

    One inner folder per class is fine (class/images/1.jpg, as in Tiny ImageNet). So is a source in which only some
    classes have inner folders.
    """
    for name, folders in zip(classes, inner, strict=True):
        splits = {top for top, slash, _ in (folder.partition("/") for folder in folders) if slash}
        splits = {top for top in splits if top.lower() in SPLIT_NAMES}
        if splits:
            found = f"folder {name!r} holds splits ({', '.join(sorted(splits))}), expected classes"
            raise SourceError(f"{where}: {found}; give {where}/{name} as the source")
    if all(inner) and any(len(folders) > 1 for folders in inner):
        name, folders = max(zip(classes, inner, strict=True), key=lambda pair: len(pair[1]))
        raise SourceError(
            f"{where}: found images only in folders of its folders, such as {name}/{min(folders)}/, expected "
            "class/image.jpg or split/class/image.jpg; choose a split with --split, or give its folder as the source"
        )


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
        # Folding can decompose letters, so it is followed by another normalisation.
        other = seen.setdefault(one_spelling(one_spelling(name).casefold()), name)
        if other != name and one_spelling(other) == one_spelling(name):
            raise SourceError(
                f"{where}: class folders {show_spelling(other)} and {show_spelling(name)} are one name in two Unicode "
                "spellings; merge them"
            )
        if other != name:
            raise SourceError(
                f"{where}: class folders {other!r} and {name!r} differ only in case; rename or merge them"
            )


def _walk(tree: Tree, path: str, depth: int = 0) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder from `path` down, with the names of its files."""
    if depth > MAX_DEPTH:
        raise SourceError(f"{path}: folders nested deeper than {MAX_DEPTH}; expected images in class folders")
    listing = tree.list_folder(path, follow=False)
    yield path, listing.files
    for name in listing.folders:
        yield from _walk(tree, _join(path, name), depth + 1)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
