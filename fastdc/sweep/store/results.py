"""Store results in one SQLite file that several sweeps may share; a finished run is never lost or changed.

A run goes `pending -> running -> done | failed | diverged | interrupted`, or is `skipped` if it cannot run here.
`interrupted` counts as pending for the next sweep. Every claim and every result is a single transaction, begun with
BEGIN IMMEDIATE. A deferred transaction fails at once with "database is locked" when two processes read and then write.
"""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastdc.common.choices import Rerun as Rerun  # `X as X` re-exports a name
from fastdc.common.crash_points import hit
from fastdc.common.log import format_seconds
from fastdc.sweep.failures import Failure
from fastdc.sweep.store.lease import Holder, Lease, Owner, is_dead, this_owner
from fastdc.sweep.store.schema import SCHEMA_VERSION
from fastdc.sweep.store.store_file import StoreFile
from fastdc.sweep.store.transitions import RETRY, Planned, enter, enter_redo, supersede, table_of, take

Outcome = Literal["done", "failed", "diverged"]
FAULTS = ("failed", "diverged")
LOST_SECONDS = 600.0
TABLES = ("runs", "redo")


class Record(NamedTuple):
    """Describe a stored run.

    Attributes:
        key: content key.
        label: values to show.
        state: state of the run.
        reason: one line for a run that is not done.
        summary: result of a run that is done.
        changed: time of the last change, in seconds since 1970.
        failure: class of a failure; None in a store that is older than these classes.
    """

    key: str
    label: dict[str, Any]
    state: str
    reason: str | None
    summary: dict[str, Any] | None
    changed: float
    failure: Failure | None = None


class Store(StoreFile):
    """Result store of one sweep folder; see `StoreFile` for its arguments and errors."""

    def __init__(self, path: Path, readonly: bool = False) -> None:
        super().__init__(path, readonly)
        self._owner = this_owner()

    # ---------------------------------------------------------------- planning

    def register(self, planned: Iterable[Planned], rerun: Rerun = "missing") -> None:
        """Enter the runs of a sweep; runs in the store stay as they are, except for those that `rerun` names.

        Args:
            planned: the runs; one with `skip` becomes a `skipped` row with that reason.
            rerun: "missing" leaves finished and failed runs; "failed" makes failed and diverged runs pending again;
                "all" makes every run pending again. An old result stays until `finish` stores the new one, and then
                moves to the table `superseded`.
        """
        runs = list(planned)
        known = self.states()
        fresh = [run for run in runs if run.key not in known or run.skip is not None]
        retry = [run.key for run in runs if rerun != "missing" and known.get(run.key) in FAULTS]
        # Runs that wait to be redone belong to a sweep that was interrupted or still runs: continue those first.
        waiting = dict(self._rows("SELECT key, state FROM redo"))
        again = rerun == "all" and not any(run.key in waiting for run in runs)
        redo = [run for run in runs if again and known.get(run.key) == "done"]
        stale = [run.axes for run in runs if run.skip is None] if "skipped" in known.values() else []
        if not (fresh or retry or redo or stale):
            return
        with self._transaction() as db:
            db.executemany("DELETE FROM runs WHERE axes = ? AND state = 'skipped'", [(axes,) for axes in stale])
            enter(db, fresh)
            db.executemany(RETRY, [(time.time(), key) for key in retry])
            enter_redo(db, redo)
            hit("store.registering")

    def states(self, redo: bool = False) -> dict[str, str]:
        """Return the state of every run by key; with `redo`, a run to be redone has the state of that repeat."""
        states = dict(self._rows("SELECT key, state FROM runs"))
        return states | dict(self._rows("SELECT key, state FROM redo")) if redo else states

    def axes(self) -> dict[str, str]:
        """Return `Planned.axes` of every run, by key."""
        return dict(self._rows("SELECT key, axes FROM runs"))

    def attempts(self) -> dict[str, int]:
        """Return how often runs that are not done were started without being given back, those now `running` included.

        A run that is `running` although no process works on it may have crashed its process.
        """
        return dict(
            self._rows(
                "SELECT key, attempts FROM runs WHERE attempts > 0 AND state != 'done' "
                "UNION ALL SELECT key, attempts FROM redo WHERE attempts > 0"
            )
        )

    # ---------------------------------------------------------------- running

    def claim(self, key: str, redo: bool = False) -> Lease | None:
        """Claim a pending run, or one whose process on this host has ended; return None if there is nothing to claim.

        Args:
            key: content key of the run.
            redo: claim a finished run too, if it was registered to run once more.
        """
        with self._transaction() as db:
            lease = take(db, "runs", key, self._owner)
            if lease is None and redo:
                lease = take(db, "redo", key, self._owner)
        hit("store.claimed")
        return lease

    def heartbeat(self, lease: Lease) -> bool:
        """Record that the run is still worked on; return False if the lease was lost."""
        query = f"UPDATE {table_of(lease)} SET heartbeat = ? WHERE key = ? AND token = ?"
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
        """Store a run's result and state in one transaction; return False, with nothing stored, if the lease was lost.

        A run that had a result keeps it if it fails now. A new result replaces the old one, which moves to the table
        `superseded`.

        Args:
            lease: from `claim`.
            outcome: "done" takes `summary` (small, because every report reads it) and `detail`; the others take
                `reason`.
            summary, detail: JSON values, without NaN.
            reason: one line.
            trace: traceback of an unexpected error.
            failure: class of the failure.
            provenance: what computed the run (`fastdc.sweep.provenance`), as JSON values.

        Raises:
            ValueError: the result or its provenance holds NaN or infinity.
        """
        failure = "diverged" if outcome == "diverged" else failure if outcome == "failed" else None
        made_by = None if provenance is None else json.dumps(provenance, allow_nan=False)
        result = None
        if outcome == "done":
            result = (lease.key, json.dumps(summary, allow_nan=False), json.dumps(detail or {}, allow_nan=False))
        held = f"SELECT 1 FROM {table_of(lease)} WHERE key = ? AND token = ? AND state = 'running'"
        with self._transaction() as db:
            if db.execute(held, lease[:2]).fetchone() is None:
                return False
            if lease.redo and result is None:  # it failed now: the row in `runs` keeps its earlier result
                db.execute("DELETE FROM redo WHERE key = ?", (lease.key,))
                return True
            if lease.redo:
                supersede(db, lease.key)
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

    def release(self, lease: Lease, counted: bool = False) -> None:
        """Give an unfinished run back, for the next sweep to continue.

        Args:
            lease: from `claim`.
            counted: whether the attempt counts, because the run may have ended its process; see `attempts`.
        """
        self._reset(table_of(lease), lease.key, lease.token, "interrupted", uncounted=not counted)

    def expire(self, key: str, token: str) -> None:
        """Take a run back from a worker whose heartbeat has stopped; it becomes pending, and the attempt counts."""
        for table in TABLES:
            self._reset(table, key, token, "pending")

    def _reset(self, table: str, key: str, token: str, state: str, uncounted: bool = False) -> None:
        with self._transaction() as db:
            db.execute(
                f"UPDATE {table} SET state = ?, token = NULL, changed = ?, attempts = attempts - ? "
                "WHERE key = ? AND token = ? AND state = 'running'",
                (state, time.time(), uncounted, key, token),
            )

    def holders(self, tables: Sequence[str] = TABLES) -> dict[str, Holder]:
        """Return the process that holds each run in state `running`, by key."""
        query = "SELECT key, pid, host, born, token, heartbeat FROM {} WHERE state = 'running'"
        rows = self._rows(" UNION ALL ".join(query.format(table) for table in tables))
        return {key: Holder(Owner(pid, host, born), token, beat) for key, pid, host, born, token, beat in rows}

    # ---------------------------------------------------------------- reading

    def records(self) -> list[Record]:
        """Return every run, oldest change first, without the details.

        A `running` run whose process on this host has ended is shown as `interrupted`. The file is not changed.

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
        """Mark the running records whose process has ended, or has shown no sign of life for long."""
        holders = self.holders(("runs",))  # an older store has no other table
        now, seen = time.time(), list[Record]()
        for record in records:
            holder = holders.get(record.key) if record.state == "running" else None
            if holder is not None and is_dead(holder.owner):
                record = record._replace(
                    state="interrupted", reason="its process has ended; the same command continues"
                )
            elif holder is not None and now - holder.heartbeat > LOST_SECONDS:  # no proof: clocks differ
                silent = format_seconds(now - holder.heartbeat)
                record = record._replace(reason=f"no sign of life from host {holder.owner.host} for {silent}")
            seen.append(record)
        return seen

    def _is_current(self) -> bool:
        """Return whether the file has the current schema; a store opened with `readonly` is not upgraded."""
        return int(self._rows("PRAGMA user_version")[0][0]) >= SCHEMA_VERSION

    def provenance(self, key: str) -> dict[str, Any] | None:
        """Return what computed a run that has ended; None if an older fastdc did not record it."""
        if not self._is_current():
            return None
        rows = self._rows("SELECT provenance FROM provenance WHERE key = ?", (key,))
        return self._plain(rows[0][0]) if rows else None

    def detail(self, key: str) -> dict[str, Any] | None:
        """Return per-class accuracy, curve and environment of a finished run; None for any other run."""
        rows = self._rows("SELECT detail FROM results WHERE key = ?", (key,))
        return self._plain(rows[0][0]) if rows else None

    def subset_cost(self, key: str) -> dict[str, Any] | None:
        """Return the cost of the subset with content key `key`, as kept by `keep_subset_cost`; None if unknown."""
        rows = self._rows("SELECT cost FROM subsets WHERE key = ?", (key,))
        return self._plain(rows[0][0]) if rows else None

    def keep_subset_cost(self, key: str, label: str, cost: dict[str, Any]) -> None:
        """Keep the cost of a subset, for every run that trains on it, now or in a later sweep."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO subsets VALUES (?, ?, ?)", (key, label, json.dumps(cost)))
