"""WebDataset: tar files with KEY.jpg and KEY.cls of every image.

Source: the webdataset library's README, "The WebDataset Format".
"""

import re
import tarfile
from itertools import islice
from pathlib import Path

from fastdc.beton.export.folder_names import folder_names
from fastdc.beton.export.layout import ExportSet, Layout, check_class_list, write_record
from fastdc.beton.exported import Exported
from fastdc.beton.sources.shards import split_of
from fastdc.beton.sources.wds_shards import TARS
from fastdc.common.tars import add_file
from fastdc.common.text import printable

SHARD_BYTES = 256 << 20
CLASSES = "classes.txt"
_SHARD = re.compile(r"[^/.]+-\d{6}\.tar")


class AsWebdataset(Layout):
    """Tars NAME-000000.tar with the files KEY.jpg (or .png) and KEY.cls, and the class names beside them."""

    name = "webdataset"
    title = "NAME-000000.tar, ... with KEY.jpg and KEY.cls (class number); classes.txt"

    def write(self, images: ExportSet, place: Path) -> None:
        """See `Layout`.

        Raises:
            OutputError: see `check_class_list`.
        """
        check_class_list(images)
        lengths = images.shard_lengths(SHARD_BYTES)
        stem = folder_names([images.name])[0].replace(".", "_")
        files = images.images()
        for shard, length in enumerate(lengths):
            with tarfile.open(place / f"{stem}-{shard:06d}.tar", "w") as archive:
                for image in islice(files, length):
                    add_file(archive, f"{image.key}.{image.suffix}", image.data)
                    add_file(archive, f"{image.key}.cls", str(image.label).encode())
        lines = "".join(f"{' '.join(printable(name).split())}\n" for name in images.manifest.classes)
        (place / CLASSES).write_text(lines, encoding="utf-8")
        write_record(images, self.name, place, len(lengths) + 1, split=split_of(f"{stem}-000000.tar", TARS))

    def may_hold(self, name: str, record: Exported) -> bool:
        return name == CLASSES or _SHARD.fullmatch(name) is not None


LAYOUT = AsWebdataset()
