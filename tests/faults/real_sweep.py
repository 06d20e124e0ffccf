"""Runs one real sweep many times, each in a process of its own that may die: `python -m tests.faults.real_sweep`.

Everything is imported once; each sweep runs in a fork, made before torch or numba have started a thread. Reads one JSON
object per line (`{"config": FILE, "fault": FASTDC_FAULT or null}`), answers each with the exit status and the table.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from fastdc.common import crash_points as faults
from fastdc.report import make_rows
from fastdc.sweep.store.results import Store

TIMES = ("compress_seconds", "observer_seconds", "scoring_seconds", "selection_seconds", "train_seconds")


def import_all() -> None:
    """Import all that a sweep imports while it runs."""
    import fastdc.observe.train_observer
    import fastdc.subsets.compress
    import fastdc.sweep.cell_runner
    import fastdc.train.evaluation  # noqa: F401


def table(workdir: Path) -> list[dict[str, Any]]:
    """Return the rows of a store without measured values."""
    with Store(workdir / "store.sqlite", readonly=True) as store:
        rows = [row.model_dump(mode="json") for row in make_rows(store.records())]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def fork_sweep(config: str, fault: str | None) -> int:
    """Return the exit code of the sweep, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            from fastdc.cli.main import run

            faults.arm(fault)
            os.dup2(2, 1)
            code = run(["sweep", config])
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    import_all()
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"code": fork_sweep(request["config"], request["fault"])}), flush=True)
