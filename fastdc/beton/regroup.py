"""Files of a folder or archive in class folders of our choice: for sets whose labels come as a list."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fastdc.beton.archives import ArchiveTree
from fastdc.beton.sources import Fetch, Tree


class RegroupedTree(ArchiveTree[str]):
    """Another order of a tree's files; nothing is copied or moved.

    Args:
        tree: where the files are; stays open as long as this is used.
        source: its path.
        places: path of each file in `tree`, by the path that it shall have here.
    """

    def __init__(self, tree: Tree, source: Path, places: Mapping[str, str]) -> None:
        super().__init__(source)
        self.name = tree.name
        self._tree = tree
        for place, path in places.items():
            self.add(place, path)

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """See `Tree`."""
        return self._tree.fetch_all(self.members[path] for path in paths)

    def close(self) -> None:
        """See `Tree`."""
        self._tree.close()
