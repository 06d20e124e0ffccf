"""Parquet shards with a dataset card, as the Hugging Face hub and `datasets.load_dataset` read them.

Source: Hugging Face hub documentation, "Dataset Cards", "Manual Configuration" and "Image Dataset".
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from fastdc.beton.export.dataset_card import dataset_card, features
from fastdc.beton.export.layout import ExportSet, ImageFile, Layout, check_class_list, write_record
from fastdc.beton.exported import Exported
from fastdc.beton.sources.shards import split_of
from fastdc.common.arrow import import_pyarrow
from fastdc.common.errors import SourceError

SHARD_BYTES = 400 << 20
_SHARD = re.compile(r"data/\w+-\d{5}-of-\d{5}\.parquet", re.ASCII)
_GROUP_ROWS, _GROUP_BYTES = 100, 16 << 20
"""Size of a row group: the hub's viewer reads whole groups."""


class AsHf(Layout):
    """Shards `data/SPLIT-00000-of-00001.parquet` with the columns image (bytes, path) and label, and a README.md."""

    name = "hf"
    title = "parquet shards with class names, and a dataset card (README.md), for the Hugging Face hub"

    def write(self, images: ExportSet, place: Path) -> None:
        """See `Layout`.

        Raises:
            OutputError: see `check_class_list`.
            SourceError: pyarrow is not installed.
        """
        arrow = import_pyarrow(f"{images.path}: writing parquet", SourceError)
        classes = images.manifest.classes
        check_class_list(images)
        split = split_name(images.manifest.split)
        (place / "data").mkdir()
        lengths = images.shard_lengths(SHARD_BYTES)
        schema = _schema(arrow, classes)
        files, size = images.images(), 0
        for shard, length in enumerate(lengths):
            path = place / "data" / f"{split}-{shard:05d}-of-{len(lengths):05d}.parquet"
            with arrow.parquet.ParquetWriter(path, schema, compression="none", use_dictionary=["label"]) as writer:
                for group in _groups(islice(files, length)):
                    table = _table(arrow, group, schema)
                    size += table.nbytes
                    writer.write_table(table)
        stored = sum(path.stat().st_size for path in (place / "data").iterdir())
        (place / "README.md").write_text(dataset_card(images, split, size, stored), encoding="utf-8")
        write_record(images, self.name, place, len(lengths) + 1, split=split_of(path.name))

    def may_hold(self, name: str, record: Exported) -> bool:
        return name == "README.md" or _SHARD.fullmatch(name) is not None


def split_name(split: str | None) -> str:
    """Return a split's name in the characters that the hub permits; "train" for a set without splits."""
    return re.sub(r"\W+", "_", split or "train", flags=re.ASCII).strip("_") or "train"


def _schema(arrow: ModuleType, classes: tuple[str, ...]) -> Any:
    image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    info = json.dumps({"info": {"features": features(classes)}})
    return arrow.schema([("image", image), ("label", arrow.int64())], metadata={"huggingface": info})


def _groups(files: Iterator[ImageFile]) -> Iterator[list[ImageFile]]:
    """Collect files into row groups; an image larger than a group has one of its own."""
    for first in files:
        group, size = [first], len(first.data)
        while len(group) < _GROUP_ROWS and size < _GROUP_BYTES and (more := next(files, None)) is not None:
            group.append(more)
            size += len(more.data)
        yield group


def _table(arrow: ModuleType, group: list[ImageFile], schema: Any) -> Any:
    images = [{"bytes": file.data, "path": f"{file.key}.{file.suffix}"} for file in group]
    labels = [file.label for file in group]
    return arrow.table({"image": images, "label": labels}, schema=schema)


LAYOUT = AsHf()
