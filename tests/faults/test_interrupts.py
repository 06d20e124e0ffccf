"""SIGINT, once and twice, at a cell that takes its time to give up. SIGTERM: `tests/sweep/test_sweep_real.py`."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.sweep.config import SweepConfig
from fastdc.sweep.store import Store

Make = Callable[..., SweepConfig]
Start = Callable[..., "subprocess.Popen[str]"]

# The command itself, but for what a cell does: it says that it began, and cleans up for a minute when interrupted.
SWEEP = """
import sys, time
from pathlib import Path
from fastdc.sweep import cell
from fastdc.sweep.run import CellResult

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
from fastdc.cli import run as command
sys.exit(command(["sweep", sys.argv[1]]))
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
    """A sweep of two runs in `work`."""
    return write_yaml(make_config(workdir=tmp_path / "work"), tmp_path / "grid.yaml")


def test_once_gives_the_run_back_and_exits_130(config: Path, python_process: Start, tmp_path: Path) -> None:
    worker = python_process(SWEEP, str(config), str(tmp_path / "log"), "60", "0")
    wait_for(tmp_path / "log", "start", worker)
    worker.send_signal(signal.SIGINT)
    out, errors = worker.communicate(timeout=20)
    assert (worker.returncode, out) == (130, "")
    assert "Traceback" not in errors
    assert states(tmp_path / "work") == ["interrupted", "pending"]
    again = python_process(SWEEP, str(config), str(tmp_path / "log"), "0", "0")
    assert again.wait(60) == 0, again.communicate()
    assert states(tmp_path / "work") == ["done", "done"]


def test_twice_ends_at_once_and_loses_nothing(config: Path, python_process: Start, tmp_path: Path) -> None:
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
