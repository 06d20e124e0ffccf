"""Rearrange the files of a folder or archive into class folders, for sets whose labels come as a list."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fastdc.beton.sources.archive_tree import ArchiveTree
from fastdc.beton.sources.trees import Fetch, Tree


class RegroupedTree(ArchiveTree[str]):
    """View of a tree whose files appear under other paths; nothing is copied or moved.

    Args:
        tree: tree that holds the files; it must stay open while this view is used.
        source: path of the tree.
        places: original path of each file in `tree`, by its path in this view.
    """

    def __init__(self, tree: Tree, source: Path, places: Mapping[str, str]) -> None:
        super().__init__(source)
        self.name = tree.name
        self._tree = tree
        for place, path in places.items():
            self.add(place, path)

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`."""
        return self._tree.fetch_all(self.members[path] for path in paths)

    def close(self) -> None:
        """Close the underlying tree."""
        self._tree.close()
