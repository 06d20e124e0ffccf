"""A cell that crashes its process ends one sweep, then only itself; a killed sweep loses no cell.

A cell whose error leaves its process broken runs again in another one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.sweep.launch.child_process import describe_exit
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from tests.faults.real_sweep import table
from tests.processes import start_process

Write = Callable[[SweepConfig, Path], Path]
Make = Callable[..., SweepConfig]

# An ordinary plug-in, installed beside the test; a file sets what it does to seed 1.
PLUGIN = """
import ctypes, os, time
from pathlib import Path
from fastdc.methods import MethodInfo
from fastdc.methods.pruning.random import METHOD

class Deadly(type(METHOD)):
    info = METHOD.info.model_copy(update={"name": "deadly"})

    def compress(self, context, config, ipc, seed):
        how = Path(__file__).with_name("how").read_text() if seed == 1 else ""
        if how == "segfault":
            ctypes.string_at(0)
        if how == "memory":
            os._exit(137)
        if how.startswith(("CUDA", "Triton")):
            with Path(__file__).with_name("pids").open("a") as pids:
                print(os.getpid(), file=pids)
            if how.endswith("always") or len(Path(__file__).with_name("pids").read_text().split()) == 1:
                raise RuntimeError(how)
        if how == "sleep":
            Path(__file__).with_name("pid").write_text(str(os.getpid()))
            time.sleep(60)
        return super().compress(context, config, ipc, seed)

METHOD = Deadly()
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Write a folder of plug-ins for `PYTHONPATH`."""
    folder = tmp_path / "plugins"
    (folder / "deadly-1.dist-info").mkdir(parents=True)
    (folder / "deadly-1.dist-info" / "METADATA").write_text("Name: deadly\nVersion: 1\n")
    (folder / "deadly-1.dist-info" / "entry_points.txt").write_text("[fastdc.methods]\ndeadly = deadly:METHOD\n")
    (folder / "deadly.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def start(plugin: Path, make_config: Make, write_yaml: Write, tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Start the sweep of three runs, with this behaviour of seed 1."""
    config = write_yaml(make_config(methods="deadly", seeds="0-2", workdir=tmp_path / "work"), tmp_path / "grid.yaml")

    def run(how: str, *arguments: str) -> "subprocess.Popen[str]":
        (plugin / "how").write_text(how)
        command = [sys.executable, "-P", "-m", "fastdc", "sweep", str(config), *arguments]
        path = f"{plugin}{os.pathsep}{Path(__file__).parents[2]}"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        (plugin / "here").mkdir(exist_ok=True)
        (plugin / "here" / "fastdc.py").write_text("raise SystemExit('of the current folder')")
        env = {**os.environ, "PYTHONPATH": path}
        return start_process(command, env=env, cwd=plugin / "here", **pipes)

    return run


def states(tmp_path: Path) -> dict[int, str]:
    """Return the stored states by seed; a report also shows the state of the process."""
    with Store(tmp_path / "work" / "store.sqlite", readonly=True) as store:
        stored = store.states()
        return {record.label["seed"]: stored[record.key] for record in store.records()}


def wait_for_pid(plugin: Path, sweep: "subprocess.Popen[str]") -> int:
    """Return the process in which the cell sleeps."""
    deadline = time.monotonic() + 60
    while not (plugin / "pid").exists() and time.monotonic() < deadline:
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.05)
    time.sleep(0.1)
    pid = int((plugin / "pid").read_text())
    (plugin / "pid").unlink()
    return pid


def ends(pid: int) -> bool:
    """Return whether the process ends soon."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_cell_that_kills_its_process_fails(start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> None:
    first = start("segfault")
    first.communicate(timeout=60)
    assert (first.returncode, states(tmp_path)) == (-signal.SIGSEGV, {0: "done", 1: "running", 2: "pending"})
    second = start("segfault")
    out, errors = second.communicate(timeout=90)
    assert (second.returncode, states(tmp_path)) == (1, {0: "done", 1: "failed", 2: "done"}), errors
    with Store(tmp_path / "work" / "store.sqlite", readonly=True) as store:
        (failed,) = [record for record in store.records() if record.state == "failed"]
    assert failed.failure == "infrastructure"
    assert "its process was killed by SIGSEGV while it ran there alone" in (failed.reason or "")
    assert "2/3" in out
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "how", ["CUDA error: uncorrectable ECC error encountered", "CUDA out of memory. Tried to allocate 2.00 GiB."]
)
def test_a_worker_whose_gpu_or_memory_failed_is_replaced_and_its_cell_runs_in_a_clean_process(
    start: Callable[..., "subprocess.Popen[str]"], plugin: Path, tmp_path: Path, how: str
) -> None:
    sweep = start(how, "--workers", "2")
    out, errors = sweep.communicate(timeout=180)
    assert (sweep.returncode, set(states(tmp_path).values())) == (0, {"done"}), errors
    first, second = (plugin / "pids").read_text().split()
    assert first != second
    assert not Path(f"/proc/{first}").exists()
    assert "3 runs: 3 done" in out
    assert "; runs again" in errors
    assert "Traceback" not in errors


def test_what_finds_no_memory_in_a_new_process_either_is_not_tried_a_third_time(
    start: Callable[..., "subprocess.Popen[str]"], plugin: Path, tmp_path: Path
) -> None:
    sweep = start("CUDA out of memory, always", "--workers", "1")
    _, errors = sweep.communicate(timeout=180)
    assert (sweep.returncode, states(tmp_path)) == (1, {0: "done", 1: "failed", 2: "done"}), errors
    first, second = (plugin / "pids").read_text().split()
    assert first != second
    hint = "out of memory (CUDA out of memory, always); lower the protocol's batch_size or the image size"
    assert f"{hint}; runs again in a new process" in errors
    with Store(tmp_path / "work" / "store.sqlite", readonly=True) as store:
        assert [record.reason for record in store.records() if record.state == "failed"] == [hint]


@pytest.mark.slow
def test_a_sweep_that_ends_while_a_cell_runs_in_another_process(
    start: Callable[..., "subprocess.Popen[str]"], plugin: Path, tmp_path: Path
) -> None:
    for number, left in ((signal.SIGKILL, "running"), (signal.SIGINT, "interrupted")):
        sweep = start("sleep")
        pid = wait_for_pid(plugin, sweep)
        sweep.send_signal(number)
        sweep.communicate(timeout=30)
        assert sweep.returncode == (130 if number == signal.SIGINT else -number)
        assert ends(pid)
        assert states(tmp_path)[1] == left
    last = start("")
    _, errors = last.communicate(timeout=90)
    assert (last.returncode, set(states(tmp_path).values())) == (0, {"done"}), errors
    assert [(row["n"], row["status"]) for row in table(tmp_path / "work")] == [(3, "done")]


def test_the_end_of_a_process_in_words() -> None:
    assert describe_exit(-signal.SIGSEGV) == "its process was killed by SIGSEGV"
    assert describe_exit(-signal.SIGKILL) == "its process was killed by SIGKILL (was the memory short?)"
    assert describe_exit(137) == "its process ended with exit code 137 (was the memory short?)"
    assert describe_exit(3) == "its process ended with exit code 3"
