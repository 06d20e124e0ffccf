"""Read and write rows of the study as text: rows.jsonl, from which a store is restored, and rows.csv for people."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastdc.common.files import write_atomic
from fastdc.report.escape import csv_text
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.row_lines import Row, make_row, parse_rows, rows_text, sort_rows
from fastdc.sweep.store.transitions import Planned
from studies.specs import Value

COLUMNS = (
    *("dataset", "method", "settings", "ipc", "protocol", "augment", "arch", "precision", "image_size", "threads"),
    *("device", "holdout", "seed", "top1", "top1_best", "images", "image_bytes", "label_bytes", "epochs", "steps"),
    *("train_seconds", "subset", "observer_seed", "key"),
)
HIDDEN = ("augment", "image_size", "precision")
"""Axes that separate rows of equal method, ipc, protocol and arch; the method's name shows them in rows.csv."""


def read_rows(study: Path) -> list[Row]:
    """Return the rows of DIR/rows.jsonl; none if the file does not exist.

    Raises:
        StoreError: a line is not a row; names it.
    """
    path = study / "rows.jsonl"
    return parse_rows(path, path.read_text()) if path.exists() else []


def restore(study: Path, store: Store) -> int:
    """Insert the committed rows that a store lacks, also where a run failed here; return their number."""
    states = store.states()
    missing = [row for row in read_rows(study) if states.get(row["key"]) != "done"]
    store.register((Planned(row["key"], row["axes"], row["label"]) for row in missing), rerun="failed")
    restored = 0
    for row in missing:
        lease = store.claim(row["key"])
        if lease is not None:
            store.finish(lease, "done", summary=row["summary"], detail=row["detail"], provenance=row["provenance"])
            restored += 1
    return restored


def export(study: Path, store: Store) -> int:
    """Add every finished run of a store to rows.jsonl; return the total number of rows."""
    axes, known = store.axes(), {row["key"]: row for row in read_rows(study)}
    for record in store.records():
        if record.state == "done" and record.key not in known and record.summary is not None:
            row = make_row(store, record, axes[record.key])
            known[record.key] = {**row, "detail": without_gaps(row["detail"])}
    rows = sort_rows(known.values())
    write_atomic(study / "rows.jsonl", rows_text(rows).encode())
    return len(rows)


def without_gaps(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return details without the curve's epochs that were not validated; of 300 epochs, 7 remain."""
    curve = [entry for entry in detail.get("curve", []) if entry.get("top1") is not None]
    return {**detail, "curve": curve}


def rows_csv(rows: Iterable[Row], usual: Mapping[str, Value]) -> str:
    """Return rows as CSV, one line per run, in which method, ipc, protocol, arch and seed name a line.

    Args:
        rows: the runs.
        usual: axes by name; a method's name also shows those of `HIDDEN` that differ from these.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        named = {"method": csv_text(row_name(row["label"], usual)), "observer_seed": _observer_seed(row)}
        settings = csv_text(split_method(row["label"]["method"])[1])
        writer.writerow({**row["summary"], **row["label"], **named, "settings": settings, "key": row["key"]})
    return text.getvalue()


def row_name(label: Mapping[str, Any], usual: Mapping[str, Value]) -> str:
    """Return a run's method with all that separates it from the method's usual run.

    `pca` stays `pca`; with hard images and crops of the whole mosaic it is `pca[keep=hard,augment=protocol]`. Settings
    that reduce a method's cost have no usual run beside them, so `sre2l[iterations=500]` is `sre2l`.
    """
    name, settings = split_method(label["method"])
    shown = [settings] if settings and not label.get("reduced") else []
    shown += [f"{axis}={label[axis]}" for axis in HIDDEN if axis in usual and label[axis] != usual[axis]]
    return f"{name}[{','.join(shown)}]" if shown else name


def split_method(text: str) -> tuple[str, str]:
    """Split a method into name and settings: `"el2n[keep=hard]"` -> `("el2n", "keep=hard")`; "" without settings."""
    name, _, settings = text.partition("[")
    return name, settings.removesuffix("]")


def _observer_seed(row: Row) -> int | None:
    """Return the seed of the observer that a run reads, as record or as teacher; None for a run that reads none.

    Every seed of the study has its own observer. A teacher that took seconds was trained here; a pretrained one took 0.
    """
    cost = row["summary"].get("cost", {})
    trained = (cost.get("observer"), cost.get("teacher"), row["summary"].get("teacher_seconds"))
    return int(row["label"]["seed"]) if row["label"].get("observer") or any(trained) else None
