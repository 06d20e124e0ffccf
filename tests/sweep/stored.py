"""What a sweep has stored, without clocks: equal for sweeps that computed the same."""

from pathlib import Path
from typing import Any

from fastdc.sweep.store.results import Store

TIMES = ("seconds", "train_seconds", "cost", "relabel_seconds", "teacher_seconds")


def results_of(workdir: Path) -> dict[str, Any]:
    """Everything stored of every run but what a clock or the order of events decides."""
    with Store(workdir / "store.sqlite", readonly=True) as store:
        found = {}
        for record in store.records():
            summary = {key: value for key, value in (record.summary or {}).items() if key not in TIMES}
            detail = store.detail(record.key) or {}
            found[record.key] = (record.label, record.state, record.reason, summary, detail.get("per_class"))
    return found


def subset_bytes(workdir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((workdir / "subsets").glob("*.beton"))}
