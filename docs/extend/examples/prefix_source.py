"""A kind of sources in a package of its own: images in one folder whose names begin with their class (`cat.17.jpg`)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.beton.sources.class_folders import list_contents
from fastdc.beton.sources.example_images import example_images
from fastdc.beton.sources.regroup import RegroupedTree
from fastdc.beton.sources.source import Opened, Source
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.trees import FolderTree

NAME = re.compile(r"(?P<label>[^.]+)\.\d+\.jpg")


class Prefixed(Source):
    """Folder of images named CLASS.NUMBER.jpg, such as those of Kaggle's Dogs vs. Cats."""

    name = "prefixed"
    title = "CLASS.NUMBER.jpg in one folder"

    def recognises(self, path: Path) -> bool:
        """Return whether every file of a folder has such a name."""
        names = [file.name for file in path.iterdir()] if path.is_dir() else []
        return bool(names) and all(map(NAME.fullmatch, names))

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        """See `Source`."""
        files = FolderTree(path)
        found = filter(None, map(NAME.fullmatch, files.list_folder("").files))
        tree = RegroupedTree(files, path, {f"{name['label']}/{name[0]}": name[0] for name in found})
        contents = list_contents(tree, path, options.split, options.classes, options.allow_missing_classes)
        yield Opened(path, tree, contents, tree.name, options.split, {"classes_from": "file names"})

    def example(self, folder: Path) -> Path:
        """See `Source`."""
        for name, file, data in example_images():
            (folder / f"{name}.{file}").write_bytes(data)
        return folder


SOURCE = Prefixed()
