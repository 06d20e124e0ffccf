"""Sweeps as processes with an executor that only waits: killed at random times, and two at once."""

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastdc.report import make_rows
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]
Start = Callable[..., "subprocess.Popen[str]"]

SWEEP = """
import sys, time
from pathlib import Path
from fastdc.sweep.sweep_config import load_config
from fastdc.sweep.cells import make_plan
from fastdc.common.errors import WorkerError
from fastdc.common.files import prepare_workdir
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.launch import in_process
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.stop_signals import signals_interrupt
from fastdc.sweep.store.results import Store

config, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
rerun = sys.argv[4] if len(sys.argv) > 4 else "missing"

def here(*_):
    raise WorkerError("what a cell does is changed in this process only")

in_process.run_in_own_process = here

def execute(runner, cell):
    with log.open("a") as handle:
        handle.write(f"start {cell.key}\\n")
    time.sleep(seconds)
    accuracy = int(cell.key[:4], 16) / 656
    with log.open("a") as handle:
        handle.write(f"end {cell.key}\\n")
    numbers = dict.fromkeys(("epochs", "steps", "images", "image_bytes", "label_bytes", "train_seconds"), 1)
    numbers["steps"] = 1001 if rerun == "all" else 1
    return CellResult({"top1": accuracy, "top1_best": accuracy, "top5": None, "cost": {}, **numbers}, {})

plan = make_plan(load_config(config, {}))
prepare_workdir(plan.config.workdir)
with Store(plan.store_path) as store, signals_interrupt():
    store.register((cell.planned() for cell in plan.cells), rerun)
    CellRunner.run = execute
    sys.exit(run_plan(plan, store, redo=rerun == "all").exit_code)
"""


def rows_of(workdir: Path) -> list[dict[str, Any]]:
    with Store(workdir / "store.sqlite", readonly=True) as store:
        return [row.model_dump() for row in make_rows(store.records())]


def executed(log: Path, word: str) -> Counter[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(line.split()[1] for line in lines if line.startswith(word))


@pytest.fixture
def grid(make_config: Make, write_yaml: Callable[[SweepConfig, Path], Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a YAML file for a grid of 12 runs; keywords change the config."""

    def write(name: str = "grid", **changes: object) -> Path:
        config = make_config(ipc="1,2,3", seeds="0-3", workdir=tmp_path / f"work-{name}", **changes)
        return write_yaml(config, tmp_path / f"{name}.yaml")

    return write


def test_a_sweep_killed_at_random_equals_an_undisturbed_one(
    grid: Callable[..., Path], python_process: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    moments = random.Random(0)
    config = grid("killed")
    for _ in range(5):
        begun = sum(executed(log, "start").values())
        worker = python_process(SWEEP, str(config), str(log), "0.1")
        while sum(executed(log, "start").values()) == begun and worker.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.25))
        worker.kill()
        worker.communicate()
    final = python_process(SWEEP, str(config), str(log), "0.1")
    _, errors = final.communicate(timeout=60)
    assert final.returncode == 0, errors
    ended = executed(log, "end")
    assert len(ended) == 12
    assert sum(executed(log, "start").values()) <= 12 + 5  # only interrupted runs ran again
    undisturbed = python_process(SWEEP, str(grid("whole")), str(tmp_path / "log2"), "0")
    assert undisturbed.wait(60) == 0
    assert rows_of(tmp_path / "work-killed") == rows_of(tmp_path / "work-whole")


def test_two_sweeps_at_once_share_the_work(grid: Callable[..., Path], python_process: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    config = grid()
    workers = [python_process(SWEEP, str(config), str(log), "0.15") for _ in range(2)]
    outputs = [worker.communicate(timeout=60) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert set(executed(log, "start").values()) == {1}
    assert len(executed(log, "end")) == 12
    assert all("locked" not in errors for _, errors in outputs)


def test_overlapping_grids_on_one_store_share_runs(
    make_config: Make, write_yaml: Callable[[SweepConfig, Path], Path], python_process: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    grids = [
        write_yaml(make_config(ipc=ipc, seeds="0-2"), tmp_path / f"{index}.yaml")
        for index, ipc in enumerate(("1,2", "2,3"))
    ]
    workers = [python_process(SWEEP, str(path), str(log), "0.1") for path in grids]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert set(executed(log, "start").values()) == {1}
    assert len(executed(log, "end")) == 9


def test_the_other_sweep_takes_over_when_one_is_killed(
    grid: Callable[..., Path], python_process: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    config = grid()
    first = python_process(SWEEP, str(config), str(log), "60")  # would hold its cell for a minute
    while not executed(log, "start"):
        time.sleep(0.02)
    second = python_process(SWEEP, str(config), str(log), "0.01")
    assert second.stderr is not None
    assert any(
        "waiting for 1 run of another sweep on this store" in line for line in second.stderr
    )  # the cell that the first one holds
    assert len(executed(log, "end")) == 11
    first.kill()
    first.communicate()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert len(executed(log, "end")) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_releases_the_running_cell(
    grid: Callable[..., Path], python_process: Start, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    config = grid()
    worker = python_process(SWEEP, str(config), str(log), "0.5")
    while sum(executed(log, "start").values()) < 2:  # the first cell is stored, the second runs
        time.sleep(0.02)
    worker.send_signal(number)
    worker.communicate(timeout=20)
    assert worker.returncode != 0
    rows = rows_of(tmp_path / "work-grid")
    assert sum(row["n"] for row in rows) == len(executed(log, "end")) >= 1
    assert any("interrupted" in (row["reason"] or "") for row in rows)
    final = python_process(SWEEP, str(config), str(log), "0.01")
    assert final.wait(60) == 0
    assert len(executed(log, "end")) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_rerun_all_loses_no_result(
    grid: Callable[..., Path], python_process: Start, tmp_path: Path, number: signal.Signals
) -> None:
    log, redone = tmp_path / "log", tmp_path / "log2"
    config = grid()
    assert python_process(SWEEP, str(config), str(log), "0").wait(60) == 0
    worker = python_process(SWEEP, str(config), str(redone), "0.3", "all")
    while sum(executed(redone, "start").values()) < 3:  # two are stored, the third runs
        time.sleep(0.02)
    worker.send_signal(number)
    worker.communicate(timeout=20)
    assert worker.returncode != 0
    rows = rows_of(tmp_path / "work-grid")
    assert {(row["n"], row["seeds"], row["status"]) for row in rows} == {(4, 4, "done")}
    new = len(executed(redone, "end"))
    assert 2 <= new < 12
    assert sum((row["steps"] - 1) * 4 // 1000 for row in rows) == new
    assert python_process(SWEEP, str(config), str(log), "0").wait(60) == 0
    assert sum(executed(log, "end").values()) == 12  # a plain rerun has nothing to do
    assert python_process(SWEEP, str(config), str(redone), "0", "all").wait(60) == 0
    rows = rows_of(tmp_path / "work-grid")
    assert all(row["n"] == 4 and row["steps"] == 1001 for row in rows)


def test_two_sweeps_with_rerun_all_share_the_work(
    grid: Callable[..., Path], python_process: Start, tmp_path: Path
) -> None:
    log, redone = tmp_path / "log", tmp_path / "log2"
    config = grid()
    assert python_process(SWEEP, str(config), str(log), "0").wait(60) == 0
    workers = [python_process(SWEEP, str(config), str(redone), "0.4", "all") for _ in range(2)]
    outputs = [worker.communicate(timeout=60) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    started = executed(redone, "start")
    assert len(started) == 12
    assert sum(started.values()) < 18  # each may start one or two before the other claims them again


TWICE = """
import time
from fastdc.sweep.stop_signals import signals_interrupt

with signals_interrupt():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("gives back", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(python_process: Start, number: signal.Signals) -> None:
    process = python_process(TWICE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == "gives back\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "")
