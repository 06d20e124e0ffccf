"""One and two signals to a cell that is slow to stop, and signals that were ignored from the start."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from tests.processes import start_process

Make = Callable[..., SweepConfig]
Start = Callable[..., "subprocess.Popen[str]"]

# The real command, with another cell: it reports its start, and cleans up for a minute when interrupted.
SWEEP = """
import sys, time
from pathlib import Path
from fastdc.sweep import cell_runner as cell
from fastdc.sweep.cell_result import CellResult

log, seconds, cleaning = Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])

def run(self, cell):
    with log.open("a") as handle:
        handle.write("start\\n")
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        with log.open("a") as handle:
            handle.write("cleaning\\n")
        time.sleep(cleaning)
        raise
    numbers = dict.fromkeys(("epochs", "steps", "images", "image_bytes", "label_bytes", "train_seconds"), 1)
    return CellResult({"top1": 50.0, "top1_best": 50.0, "top5": None, "cost": {}, **numbers}, {})

cell.CellRunner.run = run
sys.argv[1:] = ["sweep", sys.argv[1]]
from fastdc.cli.main import main
main()
"""


def wait_for(log: Path, word: str, worker: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not (log.exists() and word in log.read_text()) and time.monotonic() < deadline:
        assert worker.poll() is None, worker.communicate()
        time.sleep(0.02)


def states(workdir: Path) -> list[str]:
    with Store(workdir / "store.sqlite", readonly=True) as store:
        return sorted(store.states().values())


@pytest.fixture
def config(make_config: Make, write_yaml: Callable[[SweepConfig, Path], Path], tmp_path: Path) -> Path:
    """Write the configuration of a sweep of two runs in `work`."""
    return write_yaml(make_config(workdir=tmp_path / "work"), tmp_path / "grid.yaml")


def shown(workdir: Path) -> list[str]:
    """Return the states as a report shows them."""
    with Store(workdir / "store.sqlite", readonly=True) as store:
        return sorted(record.state for record in store.records())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_one_signal_releases_the_run_and_exits_130(
    number: signal.Signals, config: Path, python_process: Start, tmp_path: Path
) -> None:
    worker = python_process(SWEEP, str(config), str(tmp_path / "log"), "60", "0")
    wait_for(tmp_path / "log", "start", worker)
    worker.send_signal(number)
    out, errors = worker.communicate(timeout=20)
    assert (worker.returncode, out) == (130, "")
    assert "Traceback" not in errors
    assert states(tmp_path / "work") == ["interrupted", "pending"]
    again = python_process(SWEEP, str(config), str(tmp_path / "log"), "0", "0")
    assert again.wait(60) == 0, again.communicate()
    assert states(tmp_path / "work") == ["done", "done"]


def test_two_signals_end_at_once_and_lose_nothing(config: Path, python_process: Start, tmp_path: Path) -> None:
    worker = python_process(SWEEP, str(config), str(tmp_path / "log"), "60", "60")
    wait_for(tmp_path / "log", "start", worker)
    worker.send_signal(signal.SIGINT)
    wait_for(tmp_path / "log", "cleaning", worker)
    time.sleep(0.2)
    assert worker.poll() is None  # still cleaning up
    start = time.monotonic()
    worker.send_signal(signal.SIGINT)
    _, errors = worker.communicate(timeout=20)
    assert time.monotonic() - start < 5
    assert worker.returncode == 130
    assert "Traceback" not in errors
    assert states(tmp_path / "work") == ["pending", "running"]  # as a killed sweep leaves them
    assert shown(tmp_path / "work") == ["interrupted", "pending"]


def test_a_killed_sweep_is_shown_as_interrupted(config: Path, python_process: Start, tmp_path: Path) -> None:
    worker = python_process(SWEEP, str(config), str(tmp_path / "log"), "60", "0")
    wait_for(tmp_path / "log", "start", worker)
    assert shown(tmp_path / "work") == ["pending", "running"]
    worker.kill()
    worker.communicate(timeout=20)
    assert shown(tmp_path / "work") == ["interrupted", "pending"]


IGNORING = """
import os, signal, sys
signal.signal(int(sys.argv[1]), signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], *sys.argv[3:]])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_that_was_ignored_from_the_start_stays_ignored(
    number: signal.Signals, config: Path, python_process: Start, tmp_path: Path
) -> None:
    """`nohup fastdc sweep ... &` starts it like this."""
    worker = python_process(IGNORING, str(int(number)), SWEEP, str(config), str(tmp_path / "log"), "1", "0")
    wait_for(tmp_path / "log", "start", worker)
    worker.send_signal(number)
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors
    assert states(tmp_path / "work") == ["done", "done"]


def test_a_closed_terminal_releases_the_run(config: Path, tmp_path: Path) -> None:
    """The system sends SIGHUP, and every write to the terminal fails."""
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP)
    ours, its = pty.openpty()
    command = ["setsid", "--ctty", "--wait", sys.executable, str(script), str(config), str(tmp_path / "log"), "60", "0"]
    worker = start_process(command, stdin=its, stdout=its, stderr=its)
    os.close(its)
    wait_for(tmp_path / "log", "start", worker)
    os.close(ours)
    assert worker.wait(20) == 130
    assert states(tmp_path / "work") == ["interrupted", "pending"]
