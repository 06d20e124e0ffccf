"""Stores of earlier versions of fastdc: read unchanged, and upgraded.

Each holds a real sweep of `full` and `random` (ipc 2, two seeds) and one run each that is failed, diverged,
interrupted, running and pending. Made with the code of its time (schema 1: 3a01756, schema 2: b6d631c).
"""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastdc.common.errors import StoreError
from fastdc.report import make_rows
from fastdc.sweep.cells import make_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.schema import SCHEMA_VERSION
from fastdc.sweep.sweep_config import SweepConfig

OLD = sorted((Path(__file__).parent / "stores").glob("store_v*.sqlite"))
STATES = {"done": 4, "failed": 1, "diverged": 1, "interrupted": 1, "running": 1, "pending": 1}


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Copy an old store."""
    return Path(shutil.copy(request.param, tmp_path / "store.sqlite"))


def schema_of(path: Path) -> list[tuple[str, ...]]:
    """Return the file's tables with columns, types and constraints, independent of the SQL text."""
    db = sqlite3.connect(path)
    try:
        tables = sorted(name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        return [
            (table, *sorted(map(str, row[1:]))) for table in tables for row in db.execute(f"PRAGMA table_info({table})")
        ]
    finally:
        db.close()


def test_every_earlier_schema_is_here() -> None:
    assert [path.stem for path in OLD] == [f"store_v{version}" for version in range(1, SCHEMA_VERSION)]


def test_an_old_store_is_read_unchanged(old: Path) -> None:
    before = old.read_bytes()
    with Store(old, readonly=True) as store:
        records = store.records()
        assert Counter(store.states().values()) == STATES
        done = [record for record in records if record.state == "done"]
        assert all(store.detail(record.key)["curve"] for record in done)  # type: ignore[index]
        assert {store.provenance(record.key) for record in done} == {None}
        assert {record.failure for record in records} == {None}
        rows = {row.method: row for row in make_rows(records) if row.n}
    assert {name: row.n for name, row in rows.items()} == {"full": 2, "random": 2}
    assert all(0 < row.top1_mean <= 100 for row in rows.values() if row.top1_mean is not None)
    assert old.read_bytes() == before


def test_an_upgraded_store_loses_nothing(old: Path, tmp_path: Path) -> None:
    with Store(old, readonly=True) as store:
        before = store.records()
    with Store(old) as store:
        assert store.records() == before
        failed = next(record for record in before if record.state == "interrupted")
        lease = store.claim(failed.key)
        assert lease is not None
        assert store.finish(lease, "failed", reason="why", failure="method", provenance={"fastdc": "0.1.0"})
        assert store.provenance(failed.key) == {"fastdc": "0.1.0"}
        done = next(record for record in before if record.state == "done")
    with sqlite3.connect(old) as db, pytest.raises(sqlite3.IntegrityError, match="never changed"):
        db.execute("UPDATE runs SET failure = 'method' WHERE key = ?", (done.key,))
    Store(tmp_path / "new.sqlite").close()
    assert schema_of(old) == schema_of(tmp_path / "new.sqlite")


def test_two_sweeps_upgrade_one_store_at_once(old: Path) -> None:
    def open_and_count(_: int) -> int:
        with Store(old) as store:
            return len(store.records())

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(open_and_count, range(8))) == {sum(STATES.values())}


def test_an_interrupted_upgrade_keeps_the_old_store(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdc.sweep.store import schema

    monkeypatch.setattr(schema, "ADDED", {**schema.ADDED, "no_such_table": "x TEXT"})
    with pytest.raises(StoreError):
        Store(old)
    monkeypatch.undo()
    with Store(old) as store:
        assert Counter(store.states().values()) == STATES


def test_cells_of_an_old_store_are_found_done(old: Path, make_config: Callable[..., SweepConfig]) -> None:
    """`full` alone runs again: since 0.2.0 it counts raw pixels as PNG. Stores of releases lie in `tests/golden`."""
    plan = make_plan(make_config(methods="random,full"), "cpu")
    with Store(old, readonly=True) as store:
        left = plan.missing(store.states())
    assert [cell.label["method"] for cell in left] == ["full", "full"]
    assert len(plan.cells) == 4
