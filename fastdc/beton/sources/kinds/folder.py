"""Image folder: class/image.jpg, or split/class/image.jpg."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.beton.sources.class_folders import list_classes
from fastdc.beton.sources.example_images import example_images
from fastdc.beton.sources.listed_images import TABLES
from fastdc.beton.sources.source import Opened, Source, dataset_name
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.splits import find_root
from fastdc.beton.sources.tables import TABLE_SUFFIXES
from fastdc.beton.sources.trees import FolderTree
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message

UNREAD = "is not read, as folders beside it are the classes; give the table to read it"


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
        tree = FolderTree(path)
        root = find_root(tree, path, options.split)
        tables = _find_tables(path) + (_find_tables(path / root) if root else [])
        try:
            contents = list_classes(tree, path, root, options.classes, options.allow_missing_classes)
        except SourceError as error:
            advice = f"; if {tables[0].name} lists the images, give it as SOURCE: {tables[0]}" if tables else ""
            raise SourceError(f"{error}{advice}") from error
        for table in tables:
            if table.name in TABLES or len(contents.classes) == 1:  # one class may be a mere folder of images
                log_message(f"note: {table}: {UNREAD}")
        yield Opened(path, tree, contents, dataset_name(path, tree.name), options.split, contents.made)

    def example(self, folder: Path) -> Path:
        for name, file, data in example_images():
            (folder / name).mkdir(exist_ok=True)
            (folder / name / file).write_bytes(data)
        return folder


def _find_tables(folder: Path) -> list[Path]:
    """Return the tables in a folder, under any name."""
    return [file for file in sorted(folder.glob("[!.]*")) if file.suffix.lower() in TABLE_SUFFIXES and file.is_file()]


SOURCE = Folder()
