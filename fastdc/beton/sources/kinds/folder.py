"""Image folder: class/image.jpg, or split/class/image.jpg."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.beton.sources.class_folders import list_contents
from fastdc.beton.sources.example_images import example_images
from fastdc.beton.sources.listed_images import tables_in
from fastdc.beton.sources.source import Opened, Source, dataset_name
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.trees import FolderTree
from fastdc.common.log import log_message


class Folder(Source):
    """Folder with a folder of images for each class."""

    name = "folder"
    title = "class/image.jpg, or split/class/image.jpg"
    rank = 30

    def recognises(self, path: Path) -> bool:
        """Return whether a path is a folder."""
        return path.is_dir()

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        """See `Source`."""
        tree = FolderTree(path)
        for table in (*tables_in(path), *(tables_in(path / options.split) if options.split else ())):
            log_message(f"note: {table}: is not read, as folders beside it are the classes; give the table to read it")
        contents = list_contents(tree, path, options.split, options.classes, options.allow_missing_classes)
        yield Opened(path, tree, contents, dataset_name(path, tree.name), options.split, contents.made)

    def example(self, folder: Path) -> Path:
        """See `Source`."""
        for name, file, data in example_images():
            (folder / name).mkdir(exist_ok=True)
            (folder / name / file).write_bytes(data)
        return folder


SOURCE = Folder()
