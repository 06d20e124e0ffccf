"""Tars of samples in WebDataset's format."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.beton.sources.example_images import CLASSES, example_images
from fastdc.beton.sources.source import Opened, Source, dataset_name
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.sources.wds_shards import is_webdataset
from fastdc.common.tars import add_file


class WebDatasetShards(Source):
    """Folder of shards, one shard, or a pattern of their names."""

    name = "webdataset"
    title = "tars of samples KEY.jpg with KEY.cls or KEY.json: one, a folder of them, or NAME-{0000..0012}.tar"
    rank = 26

    def recognises(self, path: Path) -> bool:
        """Return whether a path is a tar of samples, or stands for several."""
        return is_webdataset(path)

    @contextmanager
    def open(self, path: Path, options: SourceOptions) -> Iterator[Opened]:
        """See `Source`. Shards may always lack images of some classes."""
        from fastdc.beton.sources.webdataset import WebDataset  # only shards need this module

        shards = WebDataset(path, options)
        yield Opened(path, shards, shards.contents, dataset_name(path, shards.name), options.split, shards.made)

    def example(self, folder: Path) -> Path:
        images = example_images()
        for shard in range(2):
            with tarfile.open(folder / f"shard-{shard:04d}.tar", "w") as archive:
                for number, (name, _, data) in enumerate(images[shard::2]):
                    add_file(archive, f"{shard}{number:05d}.jpg", data)
                    add_file(archive, f"{shard}{number:05d}.cls", str(CLASSES.index(name)).encode())
        (folder / "classes.txt").write_text("\n".join(CLASSES))
        return folder


SOURCE = WebDatasetShards()
