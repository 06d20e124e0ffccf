"""Stores of earlier releases: the present fastdc finds every cell of their grids done, and reads the same rows.

`stores/RELEASE.yaml` is the grid that the release ran, less what a later one runs again on purpose: since 0.2.0 `full`
counts raw pixels as PNG. A grid without a store gets one by `python -m tests.golden.write`, of the present code.
"""

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.golden import command, data

STORES = Path(__file__).parent / "stores"
FIGURES = ("method", "ipc", "protocol", "augment", "n", "top1_mean", "image_bytes", "label_bytes", "status")
QUERIES = {
    "cells": "SELECT key, state, attempts FROM runs ORDER BY key",
    "results": "SELECT key, summary, detail FROM results ORDER BY key",
}


def record(work: Path) -> dict[str, Any]:
    """Return what becomes of each store in a sweep of its grid; `work` is the current folder."""
    data.write_betons(data.write_photos(work / "photos"), work)
    return {path.stem: _resumed(path, work) for path in sorted(STORES.glob("*.sqlite"))}


def _resumed(path: Path, work: Path) -> dict[str, Any]:
    """Run the grid of a store on a copy and return what has changed in it, and the rows of its report."""
    folder = work / "work"
    folder.mkdir()
    store = Path(shutil.copy(path, folder / "store.sqlite"))
    before = {name: _hash(store, query) for name, query in QUERIES.items()}
    code = command.run("sweep", path.with_suffix(".yaml"), "--quiet").code
    changed = [name for name, query in QUERIES.items() if _hash(store, query) != before[name]]
    rows = json.loads(command.done("report", folder, "--format", "json"))
    shutil.rmtree(folder)
    count = len(command.rows(path, "SELECT key FROM runs"))
    return {
        "exit code": code,
        "cells": count,
        "changed by the sweep": changed,
        "rows": [" | ".join(str(row[name]) for name in FIGURES) for row in rows],
    }


def _hash(store: Path, query: str) -> str:
    return hashlib.sha256(json.dumps(command.rows(store, query)).encode()).hexdigest()


def make(grid: Path, work: Path) -> Path:
    """Run the sweep of `grid` in the empty folder `work` and keep its store beside it."""
    data.write_betons(data.write_photos(work / "photos"), work)
    command.done("sweep", grid, "--quiet")
    out = grid.with_suffix(".sqlite")
    with closing(sqlite3.connect(work / "work" / "store.sqlite")) as made, closing(sqlite3.connect(out)) as kept:
        made.backup(kept)
        kept.execute("PRAGMA journal_mode = DELETE")
        kept.execute("VACUUM")
    return out
