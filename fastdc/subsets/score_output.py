"""Write a table of scores as parquet or CSV, with the record of where they come from."""

import csv
import gzip
import io
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import Manifest
from fastdc.common.arrow import import_pyarrow
from fastdc.common.errors import ConfigError
from fastdc.common.files import atomic_file
from fastdc.subsets.lists import written
from fastdc.subsets.score_record import PARQUET_KEY, ScoreRecord

SUFFIXES = (".parquet", ".csv", ".csv.gz")
CHUNK = 4096
"""Rows of a text file whose numbers are Python objects at once."""
Columns = Mapping[str, NDArray[np.float64]]


class ScoreTable(NamedTuple):
    """Scores of every training image.

    Attributes:
        manifest: of the training set. labels: int64 [N], classes of its images.
        columns: the scores by title, float64 [N] each. record: where they come from.
    """

    manifest: Manifest
    labels: NDArray[np.int64]
    columns: Columns
    record: ScoreRecord


def write_score_table(out: Path, table: ScoreTable) -> None:
    """Write a table to a file with one of `SUFFIXES`; equal scores give equal bytes."""
    with atomic_file(out) as handle:
        if out.suffix.lower() == ".parquet":
            _write_parquet(handle, out, table)
        elif out.suffix.lower() == ".gz":  # without time and name, so that equal scores give equal bytes
            with gzip.GzipFile("", "wb", 6, fileobj=handle, mtime=0) as packed:
                _write_csv(cast("IO[bytes]", packed), table)
        else:
            _write_csv(handle, table)


def _write_parquet(handle: IO[bytes], out: Path, table: ScoreTable) -> None:
    arrow, manifest = import_pyarrow(f"{out}: parquet", ConfigError), table.manifest
    columns = {
        "index": np.arange(len(manifest.ids)),
        "imagefolder_index": arrow.array(_imagefolder(manifest), arrow.int64()),
        "id": arrow.array(map(written, manifest.ids), arrow.string()),
        "class": arrow.array((written(manifest.classes[label]) for label in table.labels), arrow.string()),
        **table.columns,
    }
    metadata = {PARQUET_KEY: table.record.model_dump_json().encode()}
    arrow.parquet.write_table(arrow.table(columns, metadata=metadata), handle)


def _imagefolder(manifest: Manifest) -> Iterator[int | None]:
    """Yield the number of every image in torchvision's ImageFolder; None where the orders differ or may differ."""
    same = manifest.order == "imagefolder"
    return (index if same else None for index in range(len(manifest.ids)))


def _write_csv(handle: IO[bytes], table: ScoreTable) -> None:
    manifest, labels, columns, record = table
    text = io.TextIOWrapper(handle, "utf-8", "backslashreplace", newline="")
    try:
        text.write(f"{record.line()}\n")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["index", "imagefolder_index", "id", "class", *columns])
        scores = chain.from_iterable(_rows(columns, start) for start in range(0, len(labels), CHUNK))
        images = zip(manifest.ids, labels.tolist(), _imagefolder(manifest), scores, strict=True)
        rows.writerows(
            (index, place, written(name), written(manifest.classes[label]), *values)
            for index, (name, label, place, values) in enumerate(images)
        )
    finally:
        text.detach()  # flushes, and leaves `handle` open


def _rows(columns: Columns, start: int) -> Iterator[tuple[float, ...]]:
    """Yield the scores of the images from `start` on; `csv` writes the shortest digits that give a number again."""
    return zip(*(values[start : start + CHUNK].tolist() for values in columns.values()), strict=True)
