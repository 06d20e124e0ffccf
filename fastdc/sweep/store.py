"""The result store: one SQLite file that several sweeps may share, where a finished run is never lost or changed.

A run is `pending -> running -> done | failed | diverged | interrupted`, or `skipped` when it cannot be tried here.
`interrupted` counts as pending for the next sweep. Claims and results are single transactions (BEGIN IMMEDIATE: a
deferred one fails with "database is locked" at once when two processes read and then write).
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from fastdc.faults import hit
from fastdc.progress import format_seconds
from fastdc.sweep.failures import Failure
from fastdc.sweep.lease import Lease, Owner, is_dead, new_token, this_owner
from fastdc.sweep.schema import SCHEMA_VERSION, damaged, open_database, store_errors

Rerun = Literal["missing", "failed", "all"]
Outcome = Literal["done", "failed", "diverged"]
CLAIMABLE = ("pending", "interrupted")
FAULTS = ("failed", "diverged")
LOST_SECONDS = 600.0
TABLES = ("runs", "redo")


class Planned(NamedTuple):
    """A run as a sweep registers it. `axes` names it without its content: a skipped row gives way by it."""

    key: str
    axes: str
    label: dict[str, Any]
    skip: str | None = None


class Record(NamedTuple):
    """A stored run: its label (the axes to show), state, reason (when not done) and summary (when done).

    `failure` is the class of a failed one; None for those of a store that is older than classes.
    """

    key: str
    label: dict[str, Any]
    state: str
    reason: str | None
    summary: dict[str, Any] | None
    changed: float
    failure: Failure | None = None


class Worker(NamedTuple):
    """Who runs a run, and a sign of life: the token and heartbeat stay equal only when nothing happens."""

    owner: Owner
    token: str
    heartbeat: float


class Store:
    """Result store of one sweep folder.

    Args:
        path: `DIR/store.sqlite`; created when missing, unless `readonly`.
        readonly: read an existing store, also from a read-only folder.

    Raises:
        StoreError: missing (`readonly`), not a store, damaged, or of a newer fastdc. The file is not touched.
        OutputError: it cannot be created, or the disk is full.
    """

    def __init__(self, path: Path, readonly: bool = False) -> None:
        self.path = path
        self._connection = open_database(path, readonly)
        self._lock = threading.RLock()
        self._owner = this_owner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. The last one to close folds the write-ahead log into it."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, store_errors(self.path):
            if self._connection.in_transaction:  # a signal came between BEGIN and the block below
                self._connection.rollback()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, store_errors(self.path):
            return self._connection.execute(query, values).fetchall()

    def _plain(self, text: str) -> dict[str, Any]:
        """A JSON object that the store keeps."""
        try:
            value = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise damaged(self.path, str(error)) from error
        if not isinstance(value, dict):
            raise damaged(self.path, f"found {type(value).__name__}, expected a JSON object")
        return value

    def check(self) -> None:
        """Read the whole file (1 s per GB, from memory) and see that it is sound; before much work is added to it.

        Raises:
            StoreError: it is damaged; it was not touched.
        """
        found = [str(row[0]) for row in self._rows("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            raise damaged(self.path, found[0])

    # ---------------------------------------------------------------- planning

    def register(self, planned: Iterable[Planned], rerun: Rerun = "missing") -> None:
        """Enter the runs of a sweep; those that are there stay as they are, but for what `rerun` asks.

        Args:
            planned: the runs; one with `skip` becomes a `skipped` row with that reason.
            rerun: "missing" leaves finished and failed runs; "failed" lets failed and diverged ones run again;
                "all" lets every one run again (an old result stays until `finish` stores the new one, and then moves
                to the table `superseded`).
        """
        runs = list(planned)
        known = self.states()
        fresh = [run for run in runs if run.key not in known or run.skip is not None]
        retry = [run.key for run in runs if rerun != "missing" and known.get(run.key) in FAULTS]
        # Runs that still wait to be redone were left by a sweep that was interrupted or is at work: go on with those.
        waiting = dict(self._rows("SELECT key, state FROM redo"))
        again = rerun == "all" and not any(run.key in waiting for run in runs)
        redo = [run for run in runs if again and known.get(run.key) == "done"]
        stale = [run.axes for run in runs if run.skip is None] if "skipped" in known.values() else []
        if not (fresh or retry or redo or stale):
            return
        now = time.time()
        with self._transaction() as db:
            db.executemany("DELETE FROM runs WHERE axes = ? AND state = 'skipped'", [(axes,) for axes in stale])
            db.executemany(
                "INSERT INTO runs (key, axes, label, state, reason, changed) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET reason = excluded.reason WHERE state = 'skipped'",
                [
                    (run.key, run.axes, json.dumps(run.label), "skipped" if run.skip else "pending", run.skip, now)
                    for run in fresh
                ],
            )
            for key in retry:
                db.execute(  # of a fault of the machine an attempt is remembered: see `_take`
                    "UPDATE runs SET state = 'pending', reason = NULL, trace = NULL, failure = NULL, "
                    "attempts = coalesce(failure = 'infrastructure', 0), "
                    "changed = ? WHERE key = ? AND state IN ('failed', 'diverged')",
                    (now, key),
                )
            db.executemany(
                "INSERT OR IGNORE INTO redo (key, label, state, changed) VALUES (?, ?, 'pending', ?)",
                [(run.key, json.dumps(run.label), now) for run in redo],
            )
            hit("store.registering")

    def states(self, redo: bool = False) -> dict[str, str]:
        """State of every run by key; with `redo` that of running it once more, where it is to be."""
        states = dict(self._rows("SELECT key, state FROM runs"))
        return states | dict(self._rows("SELECT key, state FROM redo")) if redo else states

    def axes(self) -> dict[str, str]:
        """`Planned.axes` of every run, by key."""
        return dict(self._rows("SELECT key, axes FROM runs"))

    def attempts(self) -> dict[str, int]:
        """How often each unfinished run was started, where that was more than once, or where it was not given back.

        One that is `running` while nobody works on it may have taken its process down.
        """
        return dict(
            self._rows(
                "SELECT key, attempts FROM runs WHERE state = 'running' OR (attempts > 1 AND state != 'done') "
                "UNION ALL SELECT key, attempts FROM redo WHERE state = 'running' OR attempts > 1"
            )
        )

    # ---------------------------------------------------------------- running

    def claim(self, key: str, redo: bool = False) -> Lease | None:
        """Take a pending run, or one whose process on this host has died; None when there is nothing to take.

        Args:
            redo: take a finished run too, if it was registered to run once more.
        """
        with self._transaction() as db:
            lease = _take(db, "runs", key, self._owner)
            if lease is None and redo:
                lease = _take(db, "redo", key, self._owner)
        hit("store.claimed")
        return lease

    def heartbeat(self, lease: Lease) -> bool:
        """Say that the run is still worked on; False when the lease was lost."""
        query = f"UPDATE {_table(lease)} SET heartbeat = ? WHERE key = ? AND token = ?"
        with self._transaction() as db:
            done = db.execute(query, (time.time(), *lease[:2]))
        return done.rowcount == 1

    def finish(
        self,
        lease: Lease,
        outcome: Outcome,
        *,
        summary: dict[str, Any] | None = None,
        detail: dict[str, Any] | None = None,
        reason: str | None = None,
        trace: str | None = None,
        failure: Failure | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> bool:
        """Store a run's result and its state in one transaction; False (nothing stored) when the lease was lost.

        A run that had a result keeps it when it fails now; a new result replaces the old one, which moves to the
        table `superseded`.

        Args:
            lease: from `claim`.
            outcome: "done" takes `summary` (small: read by every report) and `detail`; the others take `reason`.
            summary, detail: JSON-able, without NaN.
            reason: one line. trace: a traceback for an unexpected error. failure: class of what failed.
            provenance: what computed it (`fastdc.sweep.provenance`), JSON-able.

        Raises:
            ValueError: a result holds NaN or infinity.
        """
        failure = "diverged" if outcome == "diverged" else failure if outcome == "failed" else None
        made_by = None if provenance is None else json.dumps(provenance, allow_nan=False)
        result = None
        if outcome == "done":
            result = (lease.key, json.dumps(summary, allow_nan=False), json.dumps(detail or {}, allow_nan=False))
        held = f"SELECT 1 FROM {_table(lease)} WHERE key = ? AND token = ? AND state = 'running'"
        with self._transaction() as db:
            if db.execute(held, lease[:2]).fetchone() is None:
                return False
            if lease.redo and result is None:
                db.execute("DELETE FROM redo WHERE key = ?", (lease.key,))
                return True
            if lease.redo:
                _supersede(db, lease.key)
            db.execute(
                "UPDATE runs SET state = ?, reason = ?, trace = ?, failure = ?, token = NULL, changed = ? "
                "WHERE key = ?",
                (outcome, reason, trace, failure, time.time(), lease.key),
            )
            if result is not None:
                db.execute("INSERT INTO results (key, summary, detail) VALUES (?, ?, ?)", result)
            if made_by is not None:
                db.execute("INSERT OR REPLACE INTO provenance VALUES (?, ?)", (lease.key, made_by))
            hit("store.finishing")
        hit("store.finished")
        return True

    def release(self, lease: Lease) -> None:
        """Give an unfinished run back: the next sweep takes it up again."""
        self._reset(_table(lease), lease.key, lease.token, "interrupted")

    def expire(self, key: str, token: str) -> None:
        """Take a run from a worker that shows no sign of life (on another host, say); it becomes pending."""
        for table in TABLES:
            self._reset(table, key, token, "pending")

    def _reset(self, table: str, key: str, token: str, state: str) -> None:
        with self._transaction() as db:
            db.execute(
                f"UPDATE {table} SET state = ?, token = NULL, changed = ? "
                "WHERE key = ? AND token = ? AND state = 'running'",
                (state, time.time(), key, token),
            )

    def workers(self, tables: Sequence[str] = TABLES) -> dict[str, Worker]:
        """Who works on each run in state `running`, by key."""
        query = "SELECT key, pid, host, born, token, heartbeat FROM {} WHERE state = 'running'"
        rows = self._rows(" UNION ALL ".join(query.format(table) for table in tables))
        return {key: Worker(Owner(pid, host, born), token, beat) for key, pid, host, born, token, beat in rows}

    # ---------------------------------------------------------------- reading

    def records(self) -> list[Record]:
        """Return every run, oldest change first, without the details.

        One whose process has died shows as `interrupted`, which the next sweep makes of it.

        Raises:
            StoreError: a label or a result is not JSON.
        """
        failure = "failure" if self._is_current() else "NULL"
        rows = self._rows(
            f"SELECT runs.key, label, state, reason, summary, changed, {failure} FROM runs "
            "LEFT JOIN results USING (key) ORDER BY changed, runs.key"
        )
        plain = self._plain
        records = [
            Record(key, plain(label), state, reason, plain(summary) if summary else None, changed, failure)
            for key, label, state, reason, summary, changed, failure in rows
        ]
        return self._as_seen(records) if any(record.state == "running" for record in records) else records

    def _as_seen(self, records: list[Record]) -> list[Record]:
        """Say of each running one whose process has ended, or was silent for long, that this is so."""
        workers = self.workers(("runs",))  # an older store has no other table
        now, seen = time.time(), list[Record]()
        for record in records:
            worker = workers.get(record.key) if record.state == "running" else None
            if worker is not None and is_dead(worker.owner):
                record = record._replace(state="interrupted", reason="its process has ended; the same command goes on")
            elif worker is not None and now - worker.heartbeat > LOST_SECONDS:  # no proof: its clock may be another
                silent = format_seconds(now - worker.heartbeat)
                record = record._replace(reason=f"no sign of life from host {worker.owner.host} for {silent}")
            seen.append(record)
        return seen

    def _is_current(self) -> bool:
        """Whether the file has what schema 3 added; one that was opened to be read stays as old as it is."""
        return int(self._rows("PRAGMA user_version")[0][0]) >= SCHEMA_VERSION

    def provenance(self, key: str) -> dict[str, Any] | None:
        """What computed a run that has ended; None where that was not kept (by an older fastdc)."""
        if not self._is_current():
            return None
        rows = self._rows("SELECT provenance FROM provenance WHERE key = ?", (key,))
        return self._plain(rows[0][0]) if rows else None

    def detail(self, key: str) -> dict[str, Any] | None:
        """Per-class accuracy, curve, environment of a finished run; None for any other."""
        rows = self._rows("SELECT detail FROM results WHERE key = ?", (key,))
        return self._plain(rows[0][0]) if rows else None

    def subset_cost(self, key: str) -> dict[str, Any] | None:
        """What the subset of content key `key` took to make, as kept by `keep_subset_cost`."""
        rows = self._rows("SELECT cost FROM subsets WHERE key = ?", (key,))
        return self._plain(rows[0][0]) if rows else None

    def keep_subset_cost(self, key: str, label: str, cost: dict[str, Any]) -> None:
        """Keep what a subset took to make, for every run that trains on it, now or in a later sweep."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO subsets VALUES (?, ?, ?)", (key, label, json.dumps(cost)))


def _table(lease: Lease) -> str:
    return "redo" if lease.redo else "runs"


def _take(db: sqlite3.Connection, table: str, key: str, owner: Owner) -> Lease | None:
    row = db.execute(f"SELECT state, pid, host, born, attempts FROM {table} WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    state, pid, host, born, attempts = row
    if state not in CLAIMABLE and not (state == "running" and is_dead(Owner(pid, host, born))):
        return None
    # Pending with an attempt: its worker went silent, or the machine was at fault and it is tried again on request.
    crashed = state == "running" or (state == "pending" and attempts > 0)
    lease = Lease(key, new_token(), attempts + 1, redo=table == "redo", after_crash=crashed)
    now = time.time()
    db.execute(
        f"UPDATE {table} SET state = 'running', pid = ?, host = ?, born = ?, token = ?, heartbeat = ?, "
        "attempts = ?, changed = ? WHERE key = ?",
        (*owner, lease.token, now, lease.attempts, now, key),
    )
    return lease


def _supersede(db: sqlite3.Connection, key: str) -> None:
    """Put a finished run's result aside and make room for the one that replaces it."""
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
    db.execute(  # replaced, not updated: a trigger keeps every finished row from being changed
        "INSERT OR REPLACE INTO runs (key, axes, label, state, changed) VALUES (?, ?, ?, 'pending', ?)",
        (key, axes, label, changed),
    )
