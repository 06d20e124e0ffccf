"""Find and read single files of an image tree, which may lie in one outer folder."""

from pathlib import Path

from fastdc.beton.sources.trees import Tree
from fastdc.common.errors import SourceError


def read_member(tree: Tree, source: Path, path: str) -> bytes:
    """Read one file of a tree, which may lie in a single outer folder.

    Raises:
        SourceError: the file does not exist or cannot be read.
    """
    found = find_path(tree, path)
    if found is None:
        raise SourceError(f"{source}: holds no {path}; get it again")
    for _, fetch in tree.fetch_all([found]):
        try:
            return fetch()
        except OSError as error:
            raise SourceError(f"{source}/{found}: cannot be read ({error.strerror})") from error
    raise SourceError(f"{source}/{found}: cannot be read; get it again")


def find_path(tree: Tree, *candidates: str) -> str | None:
    """Return the first candidate that a tree has, in its root or in a single outer folder; None if it has none."""
    top = tree.list_folder("").folders
    for base in ("", *(top if len(top) == 1 else ())):
        for candidate in candidates:
            path = "/".join(filter(None, (base, candidate)))
            if _exists(tree, path):
                return path
    return None


def _exists(tree: Tree, path: str) -> bool:
    folder, parts = "", path.split("/")
    for depth, part in enumerate(parts):
        listing = tree.list_folder(folder)
        last = depth == len(parts) - 1
        if part not in listing.folders and not (last and part in listing.files):
            return False
        folder = f"{folder}/{part}" if folder else part
    return True
