"""A store that several users read: readers leave no files, and those of an older reader are named."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fastdc.sweep.store.results import Store
from fastdc.sweep.store.transitions import Planned

OWNER, COLLEAGUE = 65533, 65534
Act = Callable[[int, str], str]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to become two other users")

PRELUDE = """
import sqlite3, sys
from pathlib import Path
from fastdc.common.errors import StoreError
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.transitions import Planned
path = Path(sys.argv[1])
"""
REGISTER = """
with Store(path) as store:
    store.register([Planned("k0", "a0", {"seed": 0, "group": "g"})])
"""
READ = """
with Store(path, readonly=True) as store:
    print(store.states())
"""
KILLED = REGISTER.replace("with Store(path) as store:", "store = Store(path)\nif store:") + "\nimport os; os._exit(0)"
OLD_READ = """
connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
print(connection.execute("SELECT count(*) FROM runs").fetchone()[0])
connection.close()
"""


@pytest.fixture
def store() -> Iterator[Path]:
    """Return a path for a store in a folder of OWNER that all may write to; pytest's folders exclude other users."""
    with TemporaryDirectory() as folder:
        os.chown(folder, OWNER, OWNER)
        os.chmod(folder, 0o777)
        yield Path(folder, "store.sqlite")


@pytest.fixture
def act(store: Path) -> Act:
    """Run code as a user and return its output."""

    def become(user: int) -> list[str]:
        return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", sys.executable, "-c"]

    if subprocess.run([*become(COLLEAGUE), "import fastdc"], capture_output=True, timeout=60).returncode != 0:
        pytest.skip("another user cannot run this Python")

    def run(user: int, code: str) -> str:
        done = subprocess.run(
            [*become(user), PRELUDE + code, str(store)], capture_output=True, text=True, timeout=60, umask=0o022
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def beside(store: Path) -> list[str]:
    return sorted(path.name.removeprefix(store.name) for path in store.parent.iterdir() if path != store)


def test_a_reader_leaves_nothing(store: Path, act: Act) -> None:
    act(OWNER, REGISTER)
    assert act(COLLEAGUE, READ) == "{'k0': 'pending'}\n"
    assert beside(store) == []
    act(OWNER, REGISTER.replace("k0", "k1"))
    assert act(COLLEAGUE, READ) == "{'k0': 'pending', 'k1': 'pending'}\n"


def test_a_reader_sees_results_in_the_log_of_a_killed_sweep(store: Path, act: Act) -> None:
    act(OWNER, KILLED)
    assert beside(store) == ["-shm", "-wal"]
    assert act(COLLEAGUE, READ) == "{'k0': 'pending'}\n"
    store.with_name(store.name + "-shm").unlink()
    assert act(COLLEAGUE, READ) == "{'k0': 'pending'}\n"
    assert beside(store) == ["-wal"]
    act(OWNER, REGISTER.replace("k0", "k1"))
    assert act(COLLEAGUE, READ) == "{'k0': 'pending', 'k1': 'pending'}\n"


def test_a_reader_sees_results_of_a_running_sweep(store: Path, act: Act) -> None:
    act(OWNER, REGISTER)
    with Store(store) as running:
        running.register([Planned("k1", "a1", {"seed": 1, "group": "g"})])
        assert act(COLLEAGUE, READ) == "{'k0': 'pending', 'k1': 'pending'}\n"
    assert beside(store) == []


def test_files_of_an_older_reader_are_named(store: Path, act: Act) -> None:
    act(OWNER, REGISTER)
    act(COLLEAGUE, OLD_READ)
    assert beside(store) == ["-shm", "-wal"]
    message = act(OWNER, "try: Store(path)\nexcept StoreError as error: print(error)")
    assert message.startswith(
        f"{store}-wal: belongs to user nobody and cannot be written by this user; remove it while"
    )
    assert act(COLLEAGUE, READ) == act(OWNER, READ) == "{'k0': 'pending'}\n"


def test_the_error_does_not_advise_removing_a_log_with_results(store: Path, act: Act) -> None:
    act(COLLEAGUE, KILLED)
    store.chmod(0o666)
    message = act(OWNER, "try: Store(path)\nexcept StoreError as error: print(error)")
    assert "-wal: belongs to user nobody" in message
    assert "have it made writable (chmod a+rw): it may hold the last results" in message
