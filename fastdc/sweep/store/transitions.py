"""Move runs from one state to the next, in SQL, inside a transaction of the store."""

import json
import sqlite3
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from fastdc.sweep.store.lease import Lease, Owner, is_dead, new_token

CLAIMABLE = ("pending", "interrupted")

# After a fault of the machine one attempt stays counted: see `take`.
RETRY = """
UPDATE runs SET state = 'pending', reason = NULL, trace = NULL, failure = NULL,
attempts = coalesce(failure = 'infrastructure', 0), changed = ? WHERE key = ? AND state IN ('failed', 'diverged')
"""


class Planned(NamedTuple):
    """Describe a run as a sweep registers it.

    Attributes:
        key: content key.
        axes: what names the run without its content; a run that can be tried replaces a skipped row with equal axes.
        label: values to show.
        skip: why the run cannot be tried; None if it can.
    """

    key: str
    axes: str
    label: dict[str, Any]
    skip: str | None = None


def enter(db: sqlite3.Connection, runs: Iterable[Planned]) -> None:
    """Enter new runs; a skipped run that is known gets its new reason."""
    now = time.time()
    db.executemany(
        "INSERT INTO runs (key, axes, label, state, reason, changed) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET reason = excluded.reason WHERE state = 'skipped'",
        [
            (run.key, run.axes, json.dumps(run.label), "skipped" if run.skip else "pending", run.skip, now)
            for run in runs
        ],
    )


def enter_redo(db: sqlite3.Connection, runs: Iterable[Planned]) -> None:
    """Enter finished runs that are to run once more."""
    db.executemany(
        "INSERT OR IGNORE INTO redo (key, label, state, changed) VALUES (?, ?, 'pending', ?)",
        [(run.key, json.dumps(run.label), time.time()) for run in runs],
    )


def table_of(lease: Lease) -> str:
    """Return the table that holds the state of a lease's run."""
    return "redo" if lease.redo else "runs"


def take(db: sqlite3.Connection, table: str, key: str, owner: Owner) -> Lease | None:
    """Claim a run in one of the tables, inside a transaction."""
    row = db.execute(f"SELECT state, pid, host, born, attempts FROM {table} WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    state, pid, host, born, attempts = row
    if state not in CLAIMABLE and not (state == "running" and is_dead(Owner(pid, host, born))):
        return None
    # An attempt that counts: its process or worker was lost, or --rerun tries it again after a fault of the machine.
    lease = Lease(key, new_token(), attempts + 1, redo=table == "redo", after_crash=attempts > 0)
    now = time.time()
    db.execute(
        f"UPDATE {table} SET state = 'running', pid = ?, host = ?, born = ?, token = ?, heartbeat = ?, "
        "attempts = ?, changed = ? WHERE key = ?",
        (*owner, lease.token, now, lease.attempts, now, key),
    )
    return lease


def supersede(db: sqlite3.Connection, key: str) -> None:
    """Move a finished run's result to `superseded` and make its row pending again, for the new result."""
    db.execute(
        "INSERT INTO superseded (key, label, state, reason, summary, detail, changed, provenance) "
        "SELECT runs.key, label, state, reason, summary, detail, changed, provenance "
        "FROM runs LEFT JOIN results USING (key) LEFT JOIN provenance USING (key) WHERE runs.key = ?",
        (key,),
    )
    db.execute("DELETE FROM results WHERE key = ?", (key,))
    db.execute("DELETE FROM provenance WHERE key = ?", (key,))
    axes, label, changed = db.execute(
        "SELECT axes, redo.label, redo.changed FROM runs JOIN redo USING (key) WHERE key = ?", (key,)
    ).fetchone()
    db.execute("DELETE FROM redo WHERE key = ?", (key,))
    db.execute(  # replaced, not updated: the trigger `done_is_final` rejects an update of a finished row
        "INSERT OR REPLACE INTO runs (key, axes, label, state, changed) VALUES (?, ?, ?, 'pending', ?)",
        (key, axes, label, changed),
    )
