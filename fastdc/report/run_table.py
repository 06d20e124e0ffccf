"""Write the runs of a sweep as a parquet file, a row for each seed."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from fastdc._version import __version__
from fastdc.common.arrow import import_pyarrow
from fastdc.common.errors import ConfigError, OutputError
from fastdc.common.files import atomic_file, check_output
from fastdc.report.comparable import Group
from fastdc.report.read_results import Results
from fastdc.report.rows import Row, damage_named

MARK = b"fastdc.runs"
"""Key of the file's metadata; its value is the version of fastdc."""
RUN_COLUMNS: dict[str, Any] = {
    "seed": int,
    "key": str,
    "subset": str,
    "state": str,
    "top1": float,
    "top5": float,
    "top1_best": float,
    "provenance": str,
}
"""Columns of a run beside those of its row. `provenance` is JSON."""


def write_runs(results: Results, groups: Iterable[Group], out: Path) -> int:
    """Write every run with all columns of `Row` and `RUN_COLUMNS`, and return the number of runs.

    The columns of `Row` are those of the run's row, so its means are over all seeds. Accuracies are in percent; a run
    without a result has none.

    Args:
        results: the results.
        groups: their rows with runs, from `group_rows`.
        out: the file; an earlier one of this function is replaced.

    Raises:
        ConfigError: pyarrow is not installed.
        OutputError: `out` cannot be written, or is a file of another kind.
        StoreError: the stored data of a run are damaged.
    """
    arrow = import_pyarrow("--format parquet", ConfigError)
    if out.is_file() and not _is_runs(arrow, out):
        raise OutputError(f"{out}: exists already and is not an export of fastdc report; give --out another name")
    check_output(out, force=True)
    columns = {name: field.annotation for name, field in Row.model_fields.items()} | RUN_COLUMNS
    schema = arrow.schema({name: _arrow_type(arrow, kind) for name, kind in columns.items()}, {MARK: __version__})
    runs = [_run_columns(results, group) for group in groups]
    table = arrow.Table.from_pylist([run for row in runs for run in row], schema)
    with atomic_file(out) as handle:
        arrow.parquet.write_table(table, handle)
    return int(table.num_rows)


def _is_runs(arrow: Any, path: Path) -> bool:
    try:
        return MARK in (arrow.parquet.read_schema(path).metadata or {})
    except (OSError, arrow.ArrowException):
        return False


def _arrow_type(arrow: Any, kind: Any) -> Any:
    """Return the column type of a field: list of texts for a tuple, 64-bit numbers, text for the others."""
    if get_origin(kind) is tuple:
        return arrow.list_(arrow.string())
    kinds = {kind, *get_args(kind)}  # those of `int | None` are int and NoneType
    return arrow.float64() if float in kinds else arrow.int64() if int in kinds else arrow.string()


def _run_columns(results: Results, group: Group) -> Sequence[dict[str, Any]]:
    """Return the columns of a row's runs, by seed."""
    row, records = group
    shared = row.model_dump(mode="json")
    runs = []
    for record in records:
        with damage_named(record.key):
            made, summary = results.provenance(record.key), record.summary or {}
            runs.append(
                shared
                | {name: summary.get(name) for name in ("top1", "top5", "top1_best")}
                | {"seed": int(record.label["seed"]), "key": record.key, "state": record.state}
                | {"subset": record.label.get("subset")}
                | {"provenance": None if made is None else json.dumps(made, sort_keys=True)}
            )
    return runs
