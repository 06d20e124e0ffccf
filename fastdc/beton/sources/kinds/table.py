"""Folder of images that a table lists with their labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.beton.sources.example_images import example_images
from fastdc.beton.sources.listed_images import ListedImages, find_table, is_listed
from fastdc.beton.sources.source import Opened, Source, dataset_name
from fastdc.beton.sources.source_options import SourceOptions


class Listed(Source):
    """Images in one folder, and a table of their labels."""

    name = "table"
    title = "labels.csv, metadata.csv or metadata.jsonl beside the images; or any .csv, .tsv or .jsonl"
    rank = 25
    reads = ("image_column", "label_column")

    def recognises(self, path: Path) -> bool:
        """Return whether a path is a table, or a folder whose images a table lists."""
        return is_listed(path)

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        """See `Source`. The table may always lack images of some classes."""
        table = find_table(path, options.split)
        images = ListedImages(table, options)
        folder = path if path.is_dir() else table.parent
        yield Opened(
            table.parent,
            images,
            images.contents,
            dataset_name(folder, folder.resolve().name),
            options.split,
            images.made,
        )

    def example(self, folder: Path) -> Path:
        with (folder / "metadata.csv").open("w") as table:
            table.write("file_name,label\n")
            for name, file, data in example_images():
                (folder / f"{name}_{file}").write_bytes(data)
                table.write(f"{name}_{file},{name}\n")
        return folder


SOURCE = Listed()
