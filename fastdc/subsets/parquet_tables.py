"""Read tables of training images from parquet files. pyarrow (`fastdc[hf]`) is imported on first use."""

from pathlib import Path
from types import ModuleType

import numpy as np

from fastdc.common.errors import ConfigError
from fastdc.subsets.score_record import PARQUET_KEY, parse_record
from fastdc.subsets.tables import Table


def import_parquet(path: Path) -> ModuleType:
    """Return `pyarrow.parquet`.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            f"{path}: parquet needs pyarrow, which is not installed; run: pip install 'fastdc[hf]'"
        ) from error
    return pyarrow.parquet  # type: ignore[no-any-return]


def parquet_table(path: Path) -> Table:
    """Return the columns of numbers and texts in a parquet file; others are left out.

    Raises:
        ConfigError: pyarrow is not installed, or the file cannot be read.
    """
    parquet = import_parquet(path)
    try:
        read = parquet.read_table(path)
        columns = {name: column.to_numpy() for name, column in zip(read.column_names, read.columns, strict=True)}
        record = (read.schema.metadata or {}).get(PARQUET_KEY)
    except (OSError, ValueError, NotImplementedError, MemoryError) as error:  # ArrowInvalid is a ValueError
        reason = getattr(error, "strerror", None) or f"no complete parquet file: {error}".partition("\n")[0]
        raise ConfigError(f"{path}: cannot be read ({reason}), expected a parquet file of scores or ids") from error
    usable = {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}
    return Table(
        path,
        list(usable.values()),
        tuple(usable),
        lambda place: f"{path}[{place}]",
        record=None if record is None else parse_record(path, record),
    )
