"""Open results for reading: the store of a sweep, a bundle of one, or the finished runs of a study committed as text.

`benchmarks/study.py` writes two text files. rows.jsonl holds everything about a run, rows.csv only what a table needs.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fastdc.common.errors import StoreError
from fastdc.common.files import store_path
from fastdc.common.keys import content_key
from fastdc.sweep.bundle.bundle_archive import is_archive_name
from fastdc.sweep.bundle.read_bundle import load_bundle
from fastdc.sweep.store.results import Record, Store
from fastdc.sweep.store.row_lines import record_of

WHOLE, SHORT = "rows.jsonl", "rows.csv"
LABELS = ("dataset", "method", "protocol", "augment", "arch", "precision")
COUNTS = ("image_size", "seed", "images", "image_bytes", "epochs", "steps")
MEASURES = ("top1", "top1_best", "train_seconds")


class Results(Protocol):
    """Interface that reports read from."""

    def records(self) -> list[Record]:
        """Return every run."""

    def detail(self, key: str) -> dict[str, Any] | None:
        """Return per-class accuracy and the training curve of a finished run; None if there is none."""

    def provenance(self, key: str) -> dict[str, Any] | None:
        """Return what computed a run (`fastdc.sweep.provenance`); None if that is not recorded."""


class Committed:
    """Runs of a text file or a bundle; implements `Results`."""

    def __init__(
        self,
        records: list[Record],
        details: dict[str, dict[str, Any]] | None = None,
        provenance: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self._records, self._details, self._provenance = records, details or {}, provenance or {}

    def records(self) -> list[Record]:
        return self._records

    def detail(self, key: str) -> dict[str, Any] | None:
        return self._details.get(key)

    def provenance(self, key: str) -> dict[str, Any] | None:
        return self._provenance.get(key)


@contextmanager
def open_results(folder: Path, whole: bool = False) -> Iterator[Results]:
    """Open the results in a folder for reading: store.sqlite, else rows.jsonl, else rows.csv.

    Args:
        folder: the folder, or one of these text files itself, or an archive that `fastdc bundle` wrote.
        whole: whether more than accuracies will be read, which rows.csv does not hold.

    Raises:
        StoreError: there are no results, rows.csv is not enough, or the results are damaged. Damage of a text file is
            reported with file and line.
        BundleError: the archive is damaged or no bundle.
    """
    if is_archive_name(folder) and not folder.is_dir():
        rows = load_bundle(folder).rows
        made = {row["key"]: row["provenance"] for row in rows if row["provenance"]}
        yield Committed([record_of(row) for row in rows], {row["key"]: row["detail"] for row in rows}, made)
        return
    path = folder if folder.is_file() else _committed(folder)
    if path is not None and path.suffix == ".jsonl":
        yield _read_whole(path)
        return
    if path is not None and path.suffix == ".csv":
        if whole:
            raise StoreError(f"{path}: holds accuracies alone; this command needs {WHOLE} beside it")
        yield _read_short(path)
        return
    with Store(store_path(folder), readonly=True) as store:
        yield store


def _committed(folder: Path) -> Path | None:
    """Return the text file of a folder without a store; None if the folder has a store or neither file."""
    if store_path(folder).exists():
        return None
    return next((folder / name for name in (WHOLE, SHORT) if (folder / name).exists()), None)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); restore it, for example from its repository") from error


def _read_whole(path: Path) -> Committed:
    records: list[Record] = []
    details: dict[str, dict[str, Any]] = {}
    made: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        try:
            row = json.loads(line)
            record = record_of(row)
            details[record.key] = dict(row.get("detail") or {})
            if row.get("provenance"):
                made[record.key] = dict(row["provenance"])
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise StoreError(
                f"{path}:{number}: is no row of a study ({type(error).__name__}: {error}); export it again"
            ) from error
        records.append(record)
    return Committed(records, details, made)


def _read_short(path: Path) -> Committed:
    records: dict[tuple[str, int], Record] = {}
    for number, row in enumerate(csv.DictReader(_read_text(path).splitlines()), 2):  # line 1 is the heading
        try:
            record = _short_record(row)
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{path}:{number}: is no row of a study ({type(error).__name__}: {error}); export it again"
            ) from error
        place = record.label["group"], record.label["seed"]
        if place in records:
            raise StoreError(
                f"{path}:{number}: a second row of {record.label['method']}, seed {place[1]}, in one setting; {WHOLE} "
                "separates versions of a method: put it beside this file"
            )
        records[place] = record
    return Committed(list(records.values()))


def _short_record(row: dict[str, str]) -> Record:
    label: dict[str, Any] = {name: row[name] for name in LABELS} | {name: int(row[name]) for name in COUNTS[:2]}
    # The method's name shows what separates rows, such as crops; these have columns of their own.
    label["method"] = row["method"].partition("[")[0] + (f"[{row['settings']}]" if row.get("settings") else "")
    label["ipc"] = None if row["ipc"] in ("", "all") else int(row["ipc"])
    label["threads"] = int(row["threads"]) if row.get("threads") else None
    label["device"] = row.get("device") or None
    label["holdout"] = float(row["holdout"]) if row.get("holdout") else None
    group = content_key({name: value for name, value in label.items() if name != "seed"})
    summary: dict[str, Any] = {name: int(row[name]) for name in COUNTS[2:]}
    summary |= {name: float(row[name]) for name in MEASURES}
    summary |= {"label_bytes": int(row.get("label_bytes") or 0), "cost": {}}
    key = row.get("key") or f"{group}/{label['seed']}"
    return Record(key, {**label, "group": group}, "done", None, summary, 0.0)
