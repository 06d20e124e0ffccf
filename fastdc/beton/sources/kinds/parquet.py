"""Parquet shards, in the layouts of the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.beton.sources.example_images import example_images
from fastdc.beton.sources.shards import is_sharded
from fastdc.beton.sources.source import Opened, Source, dataset_name
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.common.arrow import import_pyarrow
from fastdc.common.errors import SourceError


class Parquet(Source):
    """Folder of parquet shards, or one shard."""

    name = "parquet"
    title = "parquet shards with an image column and a label column, as on the Hugging Face hub"
    rank = 20
    reads = ("image_column", "label_column")

    def recognises(self, path: Path) -> bool:
        """Return whether a path is a shard, or a folder of shards."""
        return is_sharded(path)

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        """See `Source`. Shards may always lack images of some classes."""
        from fastdc.beton.sources.parquet import ParquetShards  # only shards need this module

        shards = ParquetShards(path, options)
        yield Opened(path, shards, shards.contents, dataset_name(path, shards.name), options.split, shards.made)

    def example(self, folder: Path) -> Path:
        """See `Source`. Needs pyarrow."""
        arrow, images = import_pyarrow(f"{folder}: writing parquet", SourceError), example_images()
        rows = {"image": [data for _, _, data in images], "label": [name for name, _, _ in images]}
        (folder / "data").mkdir()
        arrow.parquet.write_table(arrow.table(rows), folder / "data" / "part-00000-of-00001.parquet")
        return folder


SOURCE = Parquet()
