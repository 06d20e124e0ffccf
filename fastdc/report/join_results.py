"""Join the runs of two results, so that methods of one can be compared with methods of the other."""

import os
from collections.abc import Iterable
from pathlib import Path

from fastdc.report.rows import damage_named
from fastdc.sweep.bundle.bundle_archive import SUFFIXES
from fastdc.sweep.store.results import Record


def source_name(path: Path) -> str:
    """Return the name of results: that of their folder, or of their file without its suffix."""
    name = os.path.basename(os.path.abspath(path))  # `..` is replaced, a link keeps its name
    suffix = next((each for each in (*SUFFIXES, ".jsonl", ".csv") if name.lower().endswith(each)), "")
    return name[: len(name) - len(suffix)]


def marked(method: str, source: str) -> str:
    """Return the name of a method of joined results that both have: `pca@second`."""
    return f"{method}@{source}"


def join_records(first: Iterable[Record], other: Iterable[Record], source: str) -> list[Record]:
    """Return the runs of both results; a method that both have gets `@source` in the second.

    Runs are never averaged over both, and a run that both have is in the list twice.

    Raises:
        StoreError: a run's label is damaged.
    """
    first = list(first)
    names: set[str] = set()
    for record in first:
        with damage_named(record.key):
            names.add(record.label["method"])
    return [*first, *(_renamed(record, names, source) for record in other)]


def _renamed(record: Record, names: set[str], source: str) -> Record:
    with damage_named(record.key):
        method, group = record.label["method"], record.label["group"]
    own = {"method": marked(method, source) if method in names else method, "group": marked(group, source)}
    return record._replace(label={**record.label, **own})
