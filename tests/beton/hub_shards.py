"""Parquet shards as on the Hugging Face hub, made for the tests of `fastdc.beton`."""

import json
from pathlib import Path

import pytest

from fastdc.beton import BetonFile
from fastdc.beton.classes import read_class_names
from fastdc.beton.sources.open_source import open_source
from fastdc.beton.sources.source_options import SourceOptions

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_shard(path, images, labels, *, names=None, kind=None, columns=("image", "class_id"), **options):
    """Write one shard: images as the hub's Image feature (the default) or another Arrow type, labels as given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind is None:
        images = [data if data is None or isinstance(data, dict) else {"bytes": data, "path": None} for data in images]
    columns = dict(zip(columns, [pa.array(images, kind or STRUCT), pa.array(labels)], strict=True))
    table = pa.table(columns)
    if names is not None:
        label = {"names": list(names), "_type": "ClassLabel"}
        features = {"image": {"_type": "Image"}, table.column_names[1]: label}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, **options)
    return path


def payloads(path):
    with BetonFile(path) as file:
        return [bytes(file.payload(index)) for index in range(len(file))]


def found(source, split=None, classes=None):
    names = read_class_names(classes) if isinstance(classes, Path) else classes
    with open_source(source, SourceOptions(split=split, classes=names)) as opened:
        return opened.contents
