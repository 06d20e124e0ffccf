"""A kind of sources in a package of its own: images in one folder, and their classes in `labels.csv`."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.beton.sources.class_folders import list_contents
from fastdc.beton.sources.example_images import example_images
from fastdc.beton.sources.regroup import RegroupedTree
from fastdc.beton.sources.source import Opened, Source
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.trees import FolderTree
from fastdc.common.errors import SourceError


class Listed(Source):
    """Folder whose images are listed with their classes."""

    name = "listed"
    title = "labels.csv with the columns file and class, beside the images"

    def recognises(self, path: Path) -> bool:
        """Return whether a folder has the list."""
        return (path / "labels.csv").is_file()

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        """See `Source`."""
        try:
            with (path / "labels.csv").open(newline="") as lines:
                places = {f"{row['class']}/{row['file']}": row["file"] for row in csv.DictReader(lines)}
        except (KeyError, csv.Error, UnicodeDecodeError) as error:
            raise SourceError(f"{path}/labels.csv: expected lines file,class below a line of these names") from error
        tree = RegroupedTree(FolderTree(path), path, places)
        contents = list_contents(tree, path, options.split, options.classes, options.allow_missing_classes)
        yield Opened(path, tree, contents, tree.name, options.split, {"listed_in": "labels.csv"})

    def example(self, folder: Path) -> Path:
        """See `Source`."""
        with (folder / "labels.csv").open("w") as lines:
            lines.write("file,class\n")
            for name, file, data in example_images():
                (folder / f"{name}_{file}").write_bytes(data)
                lines.write(f"{name}_{file},{name}\n")
        return folder


SOURCE = Listed()
