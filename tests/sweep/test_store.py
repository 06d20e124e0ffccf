"""The store: claims, immutable results, damaged files, several processes."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from fastdc.common.errors import StoreError
from fastdc.sweep.store.lease import Owner, is_dead, process_birth, this_owner
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.schema import SCHEMA_VERSION
from fastdc.sweep.store.transitions import Planned


def runs(count: int, skip: str | None = None) -> list[Planned]:
    return [Planned(f"k{i}", f"a{i}", {"seed": i, "group": "g"}, skip) for i in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.sqlite")


def test_a_finished_run_is_never_claimed_again_and_never_changed(store: Store) -> None:
    store.register(runs(2))
    lease = store.claim("k0")
    assert lease is not None
    assert store.finish(lease, "done", summary={"top1": 50.0}, detail={"curve": [1]})
    assert store.claim("k0") is None
    assert not store.finish(lease, "failed", reason="late")
    store.register(runs(2), rerun="failed")
    assert store.states() == {"k0": "done", "k1": "pending"}
    assert [record.summary for record in store.records() if record.key == "k0"] == [{"top1": 50.0}]
    assert store.detail("k0") == {"curve": [1]}
    with sqlite3.connect(store.path) as db, pytest.raises(sqlite3.IntegrityError, match="never changed"):
        db.execute("UPDATE runs SET state = 'pending' WHERE key = 'k0'")


def test_a_run_is_claimed_once(store: Store) -> None:
    store.register(runs(1))
    other = Store(store.path)
    assert store.claim("k0") is not None
    assert other.claim("k0") is None


def test_result_and_state_are_one_transaction(store: Store) -> None:
    store.register(runs(1))
    lease = store.claim("k0")
    assert lease is not None
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.finish(lease, "done", summary={"top1": float("nan")})
    assert store.states() == {"k0": "running"}
    assert store.detail("k0") is None


def test_released_runs_can_be_claimed_again(store: Store) -> None:
    store.register(runs(1))
    lease = store.claim("k0")
    assert lease is not None
    store.release(lease)
    assert store.states() == {"k0": "interrupted"}
    again = store.claim("k0")
    assert again is not None
    assert again.attempts == 1


@pytest.mark.parametrize("redo", [False, True])
def test_a_start_counts_unless_it_was_given_back(store: Store, redo: bool) -> None:
    store.register(runs(2))
    if redo:
        for key in ("k0", "k1"):
            lease = store.claim(key)
            assert lease is not None
            store.finish(lease, "done", summary={"top1": 1.0})
        store.register(runs(2), "all")
    assert store.attempts() == {}
    for _ in range(3):  # by Ctrl-C
        lease = store.claim("k0", redo)
        assert lease is not None
        assert store.attempts() == {"k0": 1}
        store.release(lease)
        store.release(lease)  # no longer held: nothing changes
    assert store.attempts() == {}
    claim_and_die(store.path, redo)
    assert store.attempts() == {"k0": 1}
    lease = store.claim("k0", redo)
    assert lease is not None
    store.release(lease)  # what crashed before is still known
    assert store.attempts() == {"k0": 1}
    lease = store.claim("k1", redo)
    assert lease is not None
    store.expire("k1", lease.token)
    assert store.attempts() == {"k0": 1, "k1": 1}


def test_a_lost_lease_stores_nothing(store: Store) -> None:
    store.register(runs(1))
    first = store.claim("k0")
    assert first is not None
    store.expire("k0", first.token)
    second = store.claim("k0")
    assert second is not None
    assert not store.heartbeat(first)
    assert not store.finish(first, "done", summary={"top1": 1.0})
    assert store.finish(second, "done", summary={"top1": 2.0})
    assert store.records()[0].summary == {"top1": 2.0}


def test_rerun_modes(store: Store) -> None:
    store.register(runs(3))
    for key, outcome in (("k0", "done"), ("k1", "failed"), ("k2", "diverged")):
        lease = store.claim(key)
        assert lease is not None
        store.finish(lease, outcome, summary={"top1": 1.0}, reason="why")  # type: ignore[arg-type]
    store.register(runs(3), "missing")
    assert store.states() == {"k0": "done", "k1": "failed", "k2": "diverged"}
    assert [record.failure for record in store.records()] == [None, None, "diverged"]
    store.register(runs(3), "failed")
    assert store.states() == {"k0": "done", "k1": "pending", "k2": "pending"}
    assert {record.failure for record in store.records()} == {None}
    store.register(runs(3), "all")
    assert store.states() == {"k0": "done", "k1": "pending", "k2": "pending"}
    assert store.states(redo=True) == {"k0": "pending", "k1": "pending", "k2": "pending"}
    assert store.claim("k0") is None
    lease = store.claim("k0", redo=True)
    assert lease is not None
    assert Store(store.path).claim("k0", redo=True) is None
    assert (store.heartbeat(lease), set(store.holders())) == (True, {"k0"})
    assert [record.summary for record in store.records() if record.key == "k0"] == [{"top1": 1.0}]
    assert store.finish(lease, "done", summary={"top1": 2.0})
    assert not store.finish(lease, "done", summary={"top1": 3.0})
    assert [record.summary for record in store.records() if record.key == "k0"] == [{"top1": 2.0}]
    assert store.states(redo=True)["k0"] == "done"
    with sqlite3.connect(store.path) as db:
        assert db.execute("SELECT key, state, summary FROM superseded").fetchall() == [("k0", "done", '{"top1": 1.0}')]


@pytest.mark.parametrize(("failure", "at_a_distance"), [("infrastructure", True), ("method", False), (None, False)])
def test_runs_that_the_machine_failed_are_repeated_in_isolation(
    store: Store, failure: Literal["infrastructure", "method"] | None, at_a_distance: bool
) -> None:
    store.register(runs(1))
    first = store.claim("k0")
    assert first is not None
    assert not first.after_crash
    store.finish(first, "failed", reason="its process was killed by SIGSEGV", failure=failure)
    store.register(runs(1), "failed")
    again = store.claim("k0")
    assert again is not None
    assert again.after_crash == at_a_distance
    store.release(again)  # Ctrl-C does not show that it is safe now
    last = store.claim("k0")
    assert last is not None
    assert last.after_crash == at_a_distance


def test_a_killed_or_lost_redo_can_be_claimed_again(store: Store) -> None:
    store.register(runs(1))
    lease = store.claim("k0")
    assert lease is not None
    store.finish(lease, "done", summary={"top1": 1.0})
    store.register(runs(1), "all")
    claim_and_die(store.path, redo=True)
    assert (store.states(), store.states(redo=True)) == ({"k0": "done"}, {"k0": "running"})
    second = store.claim("k0", redo=True)
    assert second is not None
    assert second.attempts == 2
    store.expire("k0", second.token)
    third = store.claim("k0", redo=True)
    assert third is not None
    assert not store.finish(second, "done", summary={"top1": 5.0})
    store.release(third)
    assert (store.states(), store.states(redo=True)) == ({"k0": "done"}, {"k0": "interrupted"})
    assert store.records()[0].summary == {"top1": 1.0}


def test_a_skipped_row_is_removed_when_the_run_becomes_possible(store: Store) -> None:
    store.register([Planned("skip-a0", "a0", {"seed": 0}, "needs a teacher")])
    assert store.records()[0].reason == "needs a teacher"
    store.register([Planned("k0", "a0", {"seed": 0})])
    assert store.states() == {"k0": "pending"}


# ------------------------------------------------------------------ killed workers


def claim_and_die(path: Path, redo: bool = False) -> None:
    """Claim k0 in another process and kill that."""
    code = (
        "import sys, os, signal; from pathlib import Path; from fastdc.sweep.store.results import Store;"
        f"assert Store(Path(sys.argv[1])).claim('k0', {redo}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=60).returncode == -9


def test_a_run_of_a_killed_process_is_reclaimed_at_once(store: Store) -> None:
    store.register(runs(1))
    claim_and_die(store.path)
    assert store.states() == {"k0": "running"}
    lease = store.claim("k0")
    assert lease is not None
    assert lease.attempts == 2


def test_a_run_of_a_lost_host_is_shown_as_interrupted(store: Store) -> None:
    store.register(runs(2))
    assert store.claim("k0") is not None
    assert store.claim("k1") is not None
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE runs SET host = 'gone', heartbeat = heartbeat - 7200 WHERE key = 'k0'")
    lost, alive = sorted(store.records(), key=lambda record: record.key)
    assert (lost.state, lost.reason) == ("running", "no sign of life from host gone for 2 h 0 min")
    assert (alive.state, alive.reason) == ("running", None)


def test_a_run_of_a_killed_process_is_shown_as_interrupted(store: Store) -> None:
    store.register(runs(1))
    claim_and_die(store.path)
    (record,) = store.records()
    assert (record.state, record.reason) == ("interrupted", "its process has ended; the same command continues")


def test_a_reused_pid_counts_as_ended() -> None:
    me = this_owner()
    assert not is_dead(me)
    assert is_dead(me._replace(born="an-earlier-boot/123"))
    assert not is_dead(Owner(me.pid, "another-host", "an-earlier-boot/123"))


def test_an_uncollected_child_counts_as_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 20
    while process_birth(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process_birth(child.pid) is None
    child.wait()


# ------------------------------------------------------------------ bad files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "zero bytes"),
        (b"id,top1\n1,50\n" * 20, "not a SQLite file"),
        (b"SQLite format 3\x00", "not a SQLite file"),
    ],
)
def test_another_file_is_refused_and_unchanged(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    for readonly in (False, True):
        with pytest.raises(StoreError, match=message):
            Store(path, readonly)
    assert path.read_bytes() == content


@pytest.mark.parametrize("keep", [0.9, 0.5, 0.1])
def test_a_truncated_store_is_refused_and_unchanged(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.register(runs(500))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(StoreError, match=r"sqlite: truncated: [\d,]+ bytes, expected"):
        Store(path)
    assert path.read_bytes() == whole[: int(len(whole) * keep)]


def test_a_store_damaged_inside_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.register(runs(500))
    whole = bytearray(path.read_bytes())
    whole[4096:] = b"\xaa" * (len(whole) - 4096)
    path.write_bytes(whole)
    with pytest.raises(StoreError, match=r"sqlite: damaged \("), Store(path) as store:
        store.register(runs(501))
    assert path.read_bytes() == whole


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="Update fastdc"):
        Store(path)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE notes (text TEXT)")
    with pytest.raises(StoreError, match="another program"):
        Store(path)


def test_a_reader_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no result store"):
        Store(tmp_path / "store.sqlite", readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_only_the_store_is_left_behind(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        store.register(runs(3))
    assert [path.name for path in tmp_path.iterdir()] == ["store.sqlite"]


def test_a_store_without_its_write_ahead_log_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.register(runs(3))
    open_store = Store(path)
    lease = open_store.claim("k0")
    assert lease is not None
    copy = tmp_path / "copy.sqlite"
    shutil.copy(path, copy)  # without -wal: the claim is lost, the rest must be whole
    with Store(copy) as store:
        assert set(store.states()) == {"k0", "k1", "k2"}


# ------------------------------------------------------------------ several processes

RACE = """
import sys
from pathlib import Path
from typing import Literal
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.transitions import Planned
path, count = Path(sys.argv[1]), int(sys.argv[2])
keys = [f"k{i}" for i in range(count)]
mine = []
with Store(path) as store:
    store.register(Planned(key, key, {"seed": 0}) for key in keys)
    for key in keys:
        lease = store.claim(key)
        if lease:
            mine.append(key)
            assert store.finish(lease, "done", summary={"top1": 1.0})
print(" ".join(mine))
"""


def test_processes_share_the_work_without_a_lock_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACE, str(tmp_path / "store.sqlite"), "40"]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    done = [worker.communicate(timeout=100)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0, 0]
    claimed = sorted(key for keys in done for key in keys)
    assert claimed == sorted(f"k{i}" for i in range(40))


def test_a_transaction_excludes_other_writers(store: Store) -> None:
    """With a deferred BEGIN, two that read and then write fail at once with "database is locked"."""
    store.register(runs(1))
    other = sqlite3.connect(store.path, timeout=0.05, isolation_level=None)
    try:
        with store._transaction() as db:
            assert db.execute("SELECT state FROM runs").fetchall() == [("pending",)]
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("DELETE FROM runs")
            db.execute("UPDATE runs SET state = 'interrupted'")
        other.execute("DELETE FROM runs")
    finally:
        other.close()


def test_kill_9_between_transactions_leaves_no_half_result(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    for _ in range(4):
        worker = subprocess.Popen([sys.executable, "-c", RACE, str(path), "400"], stdout=subprocess.DEVNULL)
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.15)
        worker.kill()
        worker.wait()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        done = {row[0] for row in db.execute("SELECT key FROM runs WHERE state = 'done'")}
        assert {row[0] for row in db.execute("SELECT key FROM results")} == done
        running = db.execute("SELECT count(*) FROM runs WHERE state = 'running'").fetchone()[0]
        assert running <= 1
    assert subprocess.run([sys.executable, "-c", RACE, str(path), "400"], timeout=100).returncode == 0
    with Store(path) as store:
        assert set(store.states().values()) == {"done"}


@contextmanager
def as_another_user() -> Iterator[None]:
    """Become another user for the block, because root ignores permissions."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_read_only_store_can_be_read_and_refuses_writes() -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "store.sqlite"
    try:
        with Store(path) as store:
            store.register(runs(2))
        path.chmod(0o444)
        folder.chmod(0o555)
        with as_another_user():
            with Store(path, readonly=True) as store:
                assert len(store.records()) == 2
            with pytest.raises(StoreError, match="read-only"), Store(path) as store:
                store.register(runs(3))
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_records_come_with_their_labels(store: Store) -> None:
    store.register([Planned("k", "a", {"method": "el2n[keep=hard]", "ipc": None})])
    record = store.records()[0]
    assert json.loads(json.dumps(record.label)) == {"method": "el2n[keep=hard]", "ipc": None}
    assert (record.state, record.reason, record.summary) == ("pending", None, None)


# ------------------------------------------------------------------ files that hold something else


def test_a_write_ahead_log_is_not_applied_to_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.executemany("INSERT INTO subsets VALUES (?, '', '{}')", [(str(i),) for i in range(300)])
    Store(path).close()
    code = "import os, sys; from pathlib import Path; from fastdc.sweep.store.results import Store; "
    code += "from fastdc.sweep.store.transitions import Planned; "
    code += "Store(Path(sys.argv[1])).register([Planned('k', 'a', {})]); os._exit(0)"  # as after kill -9
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=60).returncode == 0
    log = path.with_name("store.sqlite-wal")
    content = log.read_bytes()
    assert content
    path.rename(tmp_path / "moved")
    with pytest.raises(StoreError, match=r"store.sqlite-wal: belongs to a store that is not here .* put store.sqlite"):
        Store(path)
    assert (path.exists(), log.read_bytes()) == (False, content)
    (tmp_path / "moved").rename(path)
    with Store(path) as store:
        assert store.states() == {"k": "pending"}


def damage(path: Path, found: bytes, put: bytes) -> None:
    """Change the first of these bytes in a closed store's file."""
    whole = path.read_bytes()
    assert found in whole
    path.write_bytes(whole.replace(found, put, 1))


@pytest.mark.parametrize(
    ("put", "message"),
    [(b'"seed" 0', "damaged .Expecting"), (b'"se\xffd":0', "damaged .*UTF-8"), (b'"seed":[', r"damaged \(")],
)
def test_changed_text_is_a_damaged_store(tmp_path: Path, put: bytes, message: str) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.register([Planned("k0", "a0", {"seed": 0, "group": "g"})])
    damage(path, b'"seed": 0'[: len(put)], put)
    with pytest.raises(StoreError, match=message) as caught, Store(path, readonly=True) as store:
        store.records()
    assert "\n" not in str(caught.value)
    assert "with its -wal and -shm file" in str(caught.value)


def test_the_whole_file_is_checked_before_work(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.register(runs(500))
        store.check()
    whole = bytearray(path.read_bytes())
    page = max(range(1, len(whole) // 4096), key=lambda page: whole[page * 4096 : page * 4096 + 4096].count(b'"group"'))
    whole[page * 4096 + 8 : page * 4096 + 40] = b"\x07" * 32  # the page's index of rows
    path.write_bytes(whole)
    with pytest.raises(StoreError, match=r"sqlite: damaged \("), Store(path) as store:
        store.check()
    assert path.read_bytes() == whole


def test_a_process_of_another_container_may_be_alive() -> None:
    me = this_owner()
    boot = me.born.partition("/")[0]
    elsewhere = me._replace(pid=2**22 + 1, born=f"{boot}/1/pid:[1]")
    assert not is_dead(elsewhere)  # the same host name, pids of its own
    assert is_dead(elsewhere._replace(born=me.born))
    assert is_dead(elsewhere._replace(born="an-earlier-boot/1/pid:[1]"))
    assert not is_dead(me._replace(born="/".join(me.born.split("/")[:2])))  # as an older fastdc stored it
