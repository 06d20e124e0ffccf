"""File systems without locks, simulated by a preloaded library that fails every lock below one folder."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fastdc.sweep.store.results import Store
from fastdc.sweep.store.transitions import Planned
from tests.conftest import Betons

COMPILER = shutil.which("gcc") or shutil.which("cc")
NUMBERS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler to make the library that refuses locks")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile `no_locks.c`."""
    assert COMPILER is not None
    out = tmp_path_factory.mktemp("library") / "no_locks.so"
    source = Path(__file__).with_name("no_locks.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(out), str(source), "-ldl"], check=True, timeout=60)
    return out


@pytest.fixture
def python(library: Path, tmp_path: Path) -> Run:
    """Run Python where files below `tmp_path` cannot be locked."""

    def start(number: int, *arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        refusing = {"LD_PRELOAD": str(library), "NO_LOCKS_IN": str(tmp_path), "NO_LOCKS_ERRNO": str(number)}
        command = [sys.executable, *map(str, arguments)]
        given = {**os.environ, **refusing, **environment}
        return subprocess.run(command, env=given, capture_output=True, text=True, timeout=200, check=False)

    return start


@pytest.fixture
def fastdc(python: Run) -> Run:
    """Run a command in the same way."""
    return lambda number, *arguments, **environment: python(number, "-m", "fastdc", *arguments, **environment)


def warnings(done: "subprocess.CompletedProcess[str]") -> list[str]:
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("warning: ")]


def make_store(path: Path) -> None:
    with Store(path) as store:
        store.register([Planned("k0", "a0", {"seed": 0, "group": "g"})])


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: errno.errorcode[number])
def test_writing_works_with_one_warning(number: int, fastdc: Run, betons: Betons, tmp_path: Path) -> None:
    out = tmp_path / "out.beton"
    options = ["--ipc", 2, "--image-size", 28, "--out", out, "--workdir", tmp_path / "work"]
    (warning,) = warnings(fastdc(number, "compress", "random", betons.train, *options))
    assert f"warning: {tmp_path}: its file system has no locks ({os.strerror(number)}); run one" in warning
    assert {path.name for path in tmp_path.iterdir()} == {"out.beton", "out.json", "out.list.tsv", "work"}


def test_observing_and_compressing_work_with_one_warning(fastdc: Run, betons: Betons, tmp_path: Path) -> None:
    options = ["--observer", "arch=convnet1_w4", "--observer", "epochs=1", "--workdir", tmp_path / "work"]
    options += ["--ipc", 1, "--image-size", 28, "--out", tmp_path / "out.beton"]
    done = fastdc(errno.ENOLCK, "compress", "sre2l", betons.train, *options, "--set", "iterations=2")
    assert sum("has no locks" in line for line in warnings(done)) == 1, (
        done.stderr
    )  # one more warning is about the teacher


def test_a_writer_removes_no_file_that_another_may_be_writing(fastdc: Run, betons: Betons, tmp_path: Path) -> None:
    theirs = tmp_path / ".out.beton.00000000.tmp"
    theirs.write_bytes(b"half")
    options = ["--ipc", 2, "--image-size", 28, "--out", tmp_path / "out.beton", "--workdir", tmp_path / "work"]
    warnings(fastdc(errno.ENOLCK, "compress", "random", betons.train, *options))
    assert theirs.read_bytes() == b"half"


@pytest.mark.parametrize("present", [False, True], ids=["new store", "old store"])
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: errno.errorcode[number])
def test_a_sweep_reports_that_there_are_no_locks(
    number: int, present: bool, fastdc: Run, betons: Betons, tmp_path: Path
) -> None:
    if present:
        make_store(tmp_path / "store.sqlite")
    grid = ["--train", betons.train, "--val", betons.val, "--methods", "random", "--ipc", 1, "--workdir", tmp_path]
    done = fastdc(number, "sweep", *grid, "--arch", "convnet1_w4", "--image-size", 28)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"store.sqlite: its file system has no locks ({os.strerror(number)})" in line
    assert "put --workdir on a local disk" in line


READING = """
import sys
from pathlib import Path
from fastdc.sweep.store.results import Store
with Store(Path(sys.argv[1]), readonly=True) as store:
    print(store.states(), len(store.records()))
"""


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: errno.errorcode[number])
def test_reading_needs_no_locks(number: int, mode: str, python: Run, tmp_path: Path) -> None:
    make_store(tmp_path / "store.sqlite")
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    done = python(number, "-c", READING, tmp_path / "store.sqlite")
    assert done.stdout == "{'k0': 'pending'} 1\n", done.stderr
    assert os.listdir(tmp_path) == ["store.sqlite"]


LOSING = """
import os, sys
from pathlib import Path
from fastdc.common.errors import StoreError
from fastdc.sweep.store import schema
from fastdc.sweep.store.results import Store
schema.LOCK_SECONDS = 1
folder = os.environ.pop("NO_LOCKS_IN")
with Store(Path(folder, "store.sqlite")) as store:
    os.environ["NO_LOCKS_IN"] = folder
    try:
        store.claim("k0")
    except StoreError as error:
        print(error)
"""


@pytest.mark.parametrize(
    "number",
    # SQLite retries for 10 s.
    [errno.ENOLCK, *(pytest.param(number, marks=pytest.mark.slow) for number in NUMBERS[1:])],
    ids=lambda number: errno.errorcode[number],
)
def test_locks_that_are_lost_later_are_reported(number: int, python: Run, tmp_path: Path) -> None:
    make_store(tmp_path / "store.sqlite")
    done = python(number, "-c", LOSING)
    assert f"store.sqlite: its file system has no locks ({os.strerror(number)})" in done.stdout, done.stderr
