"""Report accuracy against epochs and the best epoch of every row; only the last epoch is ranked."""

import json
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from fastdc.common.text import plain
from fastdc.report.comparable import Group
from fastdc.report.read_results import Results
from fastdc.report.row_texts import own_ipc_text, ruled
from fastdc.report.rows import Row, damage_named
from fastdc.report.table import tables

COLUMNS = 8
"""Most epochs that a table shows besides the last one."""
RULE = (
    "accuracy after so many epochs, top-1 %, mean over n seeds; best: best epoch of each run, overstated, never ranked"
)


class Validated(NamedTuple):
    """Accuracy of a row after `epoch` epochs, in percent: mean and sample standard deviation over `n` runs.

    `std` uses ddof=1 and is None for one run.
    """

    epoch: int
    mean: float
    std: float | None
    n: int


def accuracy_by_epoch(results: Results, group: Group) -> list[Validated]:
    """Return the validations of a row's finished runs, by epoch, counted from 1.

    Raises:
        StoreError: the stored data of a run are damaged.
    """
    found: dict[int, list[float]] = {}
    for record in group[1]:
        with damage_named(record.key):
            for entry in ((results.detail(record.key) or {}).get("curve") or []) if record.state == "done" else ():
                if entry.get("top1") is not None:
                    found.setdefault(int(entry["epoch"]) + 1, []).append(float(entry["top1"]))
    return [
        Validated(epoch, fmean(values), stdev(values) if len(values) > 1 else None, len(values))
        for epoch, values in sorted(found.items())
    ]


def epochs_table(results: Results, groups: Sequence[Group]) -> str:
    """Return accuracy against epochs as text, a block for each table of results."""
    courses = {id(row): {each.epoch: each for each in accuracy_by_epoch(results, (row, runs))} for row, runs in groups}
    blocks = []
    for text, rows in tables([row for row, _ in groups]):
        shown = [row for row in rows if row.n]
        if shown:
            before = {epoch for row in shown for epoch in courses[id(row)] if epoch != row.epochs}
            epochs = _thinned(sorted(before))
            grid = [["method", "IPC", "n", *map(str, epochs), "last", "best"]]
            grid += [_cells(row, courses[id(row)], epochs) for row in shown]
            blocks.append("\n".join([text, *ruled(grid), RULE]))
    return "\n\n".join(blocks) or "no results yet"


def _cells(row: Row, course: dict[int, Validated], epochs: Sequence[int]) -> list[str]:
    means = [f"{course[epoch].mean:.2f}" if epoch in course else "" for epoch in epochs]
    ends = [f"{value:.2f}" if value is not None else "" for value in (row.top1_mean, row.top1_best_mean)]
    return [plain(row.shown), own_ipc_text(row), str(row.n), *means, *ends]


def _thinned(epochs: Sequence[int]) -> list[int]:
    """Return at most `COLUMNS` of the epochs, evenly spaced, both ends included."""
    if len(epochs) <= COLUMNS:
        return list(epochs)
    return [epochs[round(index * (len(epochs) - 1) / (COLUMNS - 1))] for index in range(COLUMNS)]


def epochs_json(results: Results, groups: Sequence[Group]) -> str:
    """Return the rows as `json_table` does, each with `top1_by_epoch`: a list of `Validated`."""
    rows: list[dict[str, Any]] = []
    for row, runs in groups:
        course = [each._asdict() for each in accuracy_by_epoch(results, (row, runs))]
        rows.append({**row.model_dump(mode="json"), "top1_by_epoch": course})
    return json.dumps(rows, indent=1, allow_nan=False)
