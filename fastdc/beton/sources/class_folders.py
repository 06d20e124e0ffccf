"""Find the classes and images of a tree of class folders.

A tree is read in the order of torchvision's ImageFolder: class folders sorted by name; inside each, folders sorted by
path; inside each of those, files sorted by name. Only files with an image's suffix count. `Contents.order` records
whether ImageFolder reads exactly the same files.
"""

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.sample_order import Order, in_imagefolder
from fastdc.beton.sources.class_numbers import match_numbers
from fastdc.beton.sources.splits import SPLIT_NAMES, find_root
from fastdc.beton.sources.trees import MAX_DEPTH, Tree, is_image, join
from fastdc.beton.texts import Texts, one_spelling, show_spelling
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message
from fastdc.common.text import printable

BY_POSITION = "given, by position"
"""What a manifest records if given classes were matched with numbers or names in other words."""


class Contents(NamedTuple):
    """Classes and images of a source.

    Attributes:
        root: path inside the tree of the folder that holds the class folders.
        classes: names of the classes in one spelling (`one_spelling`), in the order of their folders' own names.
        ids: path of every image, relative to `root`; sorted by class and name, or in the order of parquet rows.
        labels: int32 [N], class of every image; -1 if a parquet row names none.
        ignored: paths of files in class folders that lack an image's suffix.
        empty: classes without images, if those are allowed.
        named: `BY_POSITION` if given classes were matched with the numbers of folders.
        order: "imagefolder" if torchvision's ImageFolder lists the same images in the same order.
    """

    root: str
    classes: tuple[str, ...]
    ids: Texts
    labels: NDArray[np.int32]
    ignored: list[str]
    empty: frozenset[int] = frozenset()
    order: Order = "own"
    named: str = ""

    @property
    def made(self) -> dict[str, str]:
        """Return what the manifest's `made` records about the classes' names."""
        return {"class_names": self.named} if self.named else {}

    def paths(self) -> Iterator[str]:
        """Yield the paths of all images inside the tree; a list of a million would take 100 MB."""
        return (join(self.root, name) for name in self.ids)


def list_contents(
    tree: Tree,
    source: Path,
    split: str | None,
    classes: Sequence[str] | None = None,
    allow_missing: bool = False,
) -> Contents:
    """Find the classes and images of a tree.

    A folder with a name in `SPLIT_ALIASES` is a split if it holds class folders, whatever is beside it. If it holds
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
    return list_classes(tree, source, find_root(tree, source, split), classes, allow_missing)


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
    wanted = None if classes is None else tuple(map(one_spelling, classes))
    names = folders if wanted is None else _match_classes(folders, wanted, allow_missing, where)
    present = frozenset(folders)
    contents, inner = _list_images(tree, root, names, present, allow_missing, where)
    _check_nesting(names, inner, where)
    same = contents.order == "imagefolder" and folders == tuple(name for name in names if name in present)
    if not same or any(tree.hidden_images(root)):
        contents = contents._replace(order="own")
    if wanted is None or tuple(map(printable, contents.classes)) == wanted:
        return contents
    example = next(name for name in names if name in present)
    pair = f"{example!r} becomes {wanted[names.index(example)]!r}, and so on"
    log_message(f"note: {where}: --classes shares no name with the folders, which go by their numbers; {pair}")
    return contents._replace(classes=wanted, named=BY_POSITION)


def _match_classes(
    folders: tuple[str, ...], classes: Sequence[str], allow_missing: bool, where: str
) -> tuple[str, ...]:
    """Return the folder of each requested class, by name or else by number; for a class without one, its name."""
    printed = {one_spelling(printable(name)): name for name in folders}  # spelled as in a manifest
    unknown = sorted(set(printed) - set(classes))
    if unknown:
        by_number = match_numbers(folders, classes, allow_missing, where)
        if by_number is not None:
            return by_number
        raise _unknown_folders(unknown, sorted(set(classes) - set(printed)), len(classes), where)
    missing = sorted(set(classes) - set(printed))
    if missing and not allow_missing:
        raise SourceError(
            f"{where}: has no folder of class {missing[0]!r}, which --classes names ({len(missing)} are missing); add "
            "them, or keep them as classes without images with --allow-missing-classes"
        )
    return tuple(printed.get(name, name) for name in classes)


def _unknown_folders(unknown: list[str], lacking: list[str], classes: int, where: str) -> SourceError:
    """Return the error for folders that are none of the classes. `lacking` are the classes without a folder."""
    several = len(unknown) > 1
    others, them = (f", like {len(unknown) - 1} more", "them") if several else ("", "it")
    near = get_close_matches(unknown[0], lacking, 1) or lacking[:1]
    names = "names" if several else "one of the names"
    rename = f"rename {them} to {names} given there, such as {near[0]!r}, " if near else ""
    return SourceError(
        f"{where}: folder {unknown[0]!r} is none of the {classes} classes that --classes names{others}; {rename}remove "
        f"{them}, name {them} there too, or number all folders, from 0"
    )


def _list_images(
    tree: Tree, root: str, classes: tuple[str, ...], folders: frozenset[str], allow_missing: bool, where: str
) -> tuple[Contents, list[set[str]]]:
    """Return the images of all classes and, per class, its inner folders that hold some."""
    counts: list[int] = []
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
            counts.append(len(images))
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
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    empty = frozenset(label for label, count in enumerate(counts) if not count)
    order: Order = "imagefolder" if plain else "own"
    return Contents(root, tuple(map(one_spelling, classes)), ids, labels, ignored, empty, order), inner


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
    for folder, files in sorted(_walk(tree, join(root, name))):  # by whole path: "a-b" comes before "a/b"
        for file in sorted(files):
            (images if is_image(file) else other).append(join(folder, file)[start:])
    return images, other


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
        hint = (
            ""
            if classes
            else " (a flat set has to be sorted into class folders first, or given with a table of its labels)"
        )
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
        yield from _walk(tree, join(path, name), depth + 1)
