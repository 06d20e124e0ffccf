"""Write runs of a store as JSON lines, and read them back."""

import json
from calendar import timegm
from collections.abc import Iterable
from pathlib import Path
from time import strptime
from typing import Any

from fastdc.common.errors import StoreError
from fastdc.sweep.store.results import Record, Store

Row = dict[str, Any]
"""Run as plain data: key, axes, label, summary, detail and provenance, as a store keeps them.

Rows of a bundle also have state, reason, failure and changed; the summary of a run without a result is None.
"""

PARTS = ("key", "axes", "label", "summary", "detail", "provenance")


def make_row(store: Store, record: Record, axes: str) -> Row:
    """Return a run of a store as plain data."""
    return {
        "key": record.key,
        "axes": axes,
        "label": record.label,
        "summary": record.summary,
        "detail": store.detail(record.key) or {},
        "provenance": store.provenance(record.key),
    }


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """Return rows by data set, IPC, protocol, cropping rule, network, method and seed."""
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[Any, ...]:
    label = row["label"]
    names = ("dataset", "ipc", "protocol", "augment", "arch", "method")
    return (*(str(label[name]).rjust(5) for name in names), label["seed"], row["key"])  # rjust sorts IPC by size


def rows_text(rows: Iterable[Row]) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)


def parse_rows(path: Path, text: str) -> list[Row]:
    """Return the rows of a text of JSON lines.

    Raises:
        StoreError: a line is not a row; names `path` and the line.
    """
    return [_parsed(path, number, line) for number, line in enumerate(text.splitlines(), 1)]


def _parsed(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
        missing = [part for part in PARTS if part not in row]
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path}:{number}: not a row of JSON ({error}); copy this line from an undamaged file"
        ) from error
    if missing or not isinstance(row, dict):
        raise StoreError(f"{path}:{number}: a row without {', '.join(missing)}; copy this line from an undamaged file")
    return row


def record_of(row: Row) -> Record:
    """Return a row as a store's record, which changed when the run started if the row does not hold a time.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: the row is not what `make_row` returns.
    """
    key, label, state = str(row["key"]), dict(row["label"]), str(row.get("state", "done"))
    summary = dict(row["summary"]) if state == "done" else None
    started = (row.get("provenance") or {}).get("started")
    changed = float(row.get("changed") or (timegm(strptime(started, "%Y-%m-%dT%H:%M:%SZ")) if started else 0.0))
    return Record(key, label, state, row.get("reason"), summary, changed, row.get("failure"))
