"""Find the folder of a split in an image folder or an archive, by its name and by what it holds."""

from collections.abc import Sequence
from pathlib import Path

from fastdc.beton.sources.trees import MAX_DEPTH, Listing, Tree, is_image, join
from fastdc.common.errors import SourceError

SPLIT_ALIASES = (("train", "training"), ("val", "valid", "validation", "validate", "eval"), ("test", "testing"))
"""Common names for the folder of a split; the names in one row are equivalent."""
SPLIT_NAMES = frozenset(name for row in SPLIT_ALIASES for name in row)


def find_root(tree: Tree, source: Path, split: str | None) -> str:
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
                return join(root, found)
        if splits:
            raise no_such_split(source, [name for name in listing.folders if name.lower() in SPLIT_NAMES], split)
        single = len(listing.folders) == 1 and not any(map(is_image, listing.files))
        if not single or not _is_outer(tree.list_folder(join(root, listing.folders[0]))):
            break
        root = join(root, listing.folders[0])
    if split is not None:
        where = f"{source}/{root}" if root else str(source)
        raise SourceError(
            f"{where}: no folder {split!r} with class folders in it, expected split/class/image.jpg; if the folders "
            "there are the classes, omit --split"
        )
    return root


def choose_split(names: list[str], split: str | None, source: Path) -> str:
    """Return the one of a source's splits `names` that `split` matches; see `match_split`.

    Raises:
        SourceError: `split` is missing, matches none of them, or several.
    """
    chosen = None if split is None else match_split(names, split, source)
    if chosen is None:
        raise no_such_split(source, names, split)
    return chosen


def check_own_split(own: str | None, split: str | None, source: Path) -> None:
    """Check a requested split against the only one that a source holds.

    Args:
        own: the split that the source names; None if it names none.

    Raises:
        SourceError: another split is requested.
    """
    if split is not None and (own is None or match_split([own], split, source) is None):
        named = f"is of the split {own!r}" if own else "names no split"
        raise SourceError(f"{source}: {named}, but the requested split is {split!r}; omit --split")


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
    path = join(root, name)
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
    path = join(root, name)
    return any(holds_images(tree, join(path, inner)) for inner in tree.list_folder(path).folders)


def holds_images(tree: Tree, path: str, depth: int = 0) -> bool:
    """Return whether a folder, or one in it, holds a file with an image's suffix."""
    if depth > MAX_DEPTH:
        return False
    listing = tree.list_folder(path, follow=False)
    return any(map(is_image, listing.files)) or any(
        holds_images(tree, join(path, name), depth + 1) for name in listing.folders
    )
