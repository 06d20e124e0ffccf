"""Tar or zip archive of an image folder."""

import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fastdc.beton.sources.archives import open_tree
from fastdc.beton.sources.class_folders import list_contents
from fastdc.beton.sources.example_images import example_images
from fastdc.beton.sources.source import Opened, Source, dataset_name
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.common.tars import add_file


class Archive(Source):
    """Archive of an image folder, read without unpacking it to disk."""

    name = "archive"
    title = "a tar (plain or compressed) or zip of an image folder"
    rank = 40

    def recognises(self, path: Path) -> bool:
        """Return True: this kind is tried last, and its reader reports what a path is instead."""
        return True

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        with closing(open_tree(path)) as tree:
            contents = list_contents(tree, path, options.split, options.classes, options.allow_missing_classes)
            yield Opened(path, tree, contents, dataset_name(path, tree.name), options.split, contents.made)

    def example(self, folder: Path) -> Path:
        with tarfile.open(folder / "images.tar", "w") as archive:
            for name, file, data in example_images():
                add_file(archive, f"{name}/{file}", data)
        return folder / "images.tar"


SOURCE = Archive()
