"""Read tables of training images from parquet files. pyarrow (extra `hf`) is imported on first use."""

from pathlib import Path
from typing import Any

from fastdc.common.arrow import import_pyarrow
from fastdc.common.errors import ConfigError
from fastdc.subsets.score_record import PARQUET_KEY, parse_record
from fastdc.subsets.tables import MAX_LIST_BYTES, Table

MAX_ROWS = MAX_LIST_BYTES // 8
"""Most rows of a table. A small file may announce any number, because equal values take no room in it."""


def parquet_table(path: Path) -> Table:
    """Return the columns of numbers and texts in a parquet file; others, such as images, are not read.

    Raises:
        ConfigError: pyarrow is not installed, or the file cannot be read.
    """
    arrow = import_pyarrow(f"{path}: parquet", ConfigError)
    try:
        with arrow.parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise ConfigError(f"{path}: has {file.metadata.num_rows:,} rows, expected at most {MAX_ROWS:,}")
            schema = file.schema_arrow
            names = [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_usable(arrow, kind)]
            read = file.read(names)
        columns = [column.to_numpy() for column in read.columns]
        record = (schema.metadata or {}).get(PARQUET_KEY)
    except (OSError, ValueError, NotImplementedError, MemoryError, arrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or f"no complete parquet file: {error}".partition("\n")[0]
        raise ConfigError(f"{path}: cannot be read ({reason}), expected a parquet file of scores or ids") from error
    return Table(
        path,
        columns,
        tuple(read.column_names),
        lambda place: f"{path}[{place}]",
        record=None if record is None else parse_record(path, record),
    )


def _is_usable(arrow: Any, kind: Any) -> bool:
    """Return whether a column of this type may hold ids, classes or scores."""
    types = arrow.types
    if types.is_dictionary(kind):
        return _is_usable(arrow, kind.value_type)
    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
    return any(check(kind) for check in checks)
