"""A long sweep of instant cells with random faults: it ends in the table of the undisturbed sweep.

Faults by a seeded draw: the process is killed at a named point, the disk is full there, SIGINT comes, two sweeps run at
once, a cell of this try raises (and is run again by --rerun failed). Threads, file handles, shared memory and
resident memory of a process that runs many sweeps stay flat.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from tests.faults.real_sweep import table
from tests.processes import start_process

OFTEN = ("file.written", "file.replaced", "store.claimed", "store.finishing", "store.finished")
"""Points that a sweep reaches in every cell."""
STATES = {"done", "pending", "running", "interrupted", "failed", "diverged"}

Make = Callable[..., SweepConfig]
Write = Callable[[SweepConfig, Path], Path]

# Answers each line, a list of children to run at once, with their exit codes; a child is [fault, rerun, rate, seed].
DRIVER = """
import json, os, random, sys
from pathlib import Path
from fastdc.common import crash_points as faults
from fastdc.common.errors import DivergedError, FastDCError, LoaderError, MethodError, WorkerError
from fastdc.common.files import write_atomic
from fastdc.sweep.sweep_config import load_config
from fastdc.sweep.cells import make_plan
from fastdc.common.files import prepare_workdir
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.launch import in_process
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.stop_signals import signals_interrupt
from fastdc.sweep.store.results import Store

plan = make_plan(load_config(Path(sys.argv[1]), {}))
numbers = dict.fromkeys(("epochs", "steps", "images", "image_bytes", "label_bytes", "train_seconds"), 1)
ERRORS = (MethodError("no"), DivergedError("loss is nan"), LoaderError("sample 3"), MemoryError(), OSError(5, "I/O"))

def here(*_):
    raise WorkerError("what a cell does is changed in this process only")

in_process.run_in_own_process = here

def sweep(rerun, rate, seed):
    draws = random.Random(seed)

    def execute(cell):
        kept = plan.config.workdir / "checkpoints" / cell.key
        kept.mkdir(parents=True, exist_ok=True)
        write_atomic(kept / "checkpoint.pt", b"state")
        if draws.random() < rate:
            raise draws.choice(ERRORS)
        accuracy = int(cell.key[:6], 16) / 2**24 * 100
        return CellResult({"top1": accuracy, "top1_best": accuracy, "top5": None, "cost": {}, **numbers}, {}, kept)

    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store, signals_interrupt():
        store.register((cell.planned() for cell in plan.cells), rerun)
        CellRunner.run = lambda self, cell: execute(cell)
        return run_plan(plan, store).exit_code

def fork(fault, rerun, rate, seed):
    child = os.fork()
    if child == 0:
        code = 70
        try:
            faults.arm(fault)
            code = sweep(rerun, rate, seed)
        except FastDCError as error:
            code = error.exit_code
        except OSError:  # a full disk, raised at a point of the store; the command reports it in one line
            code = 2
        except KeyboardInterrupt:
            code = 130
        finally:
            os._exit(code)
    return child

def state():
    shared = os.listdir("/dev/shm")
    memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return [len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), len(shared), memory]

for line in sys.stdin:
    request = json.loads(line)
    if request == "flat":
        before = []
        for repeat in range(6):
            sweep("all" if repeat % 2 else "missing", 0.0, 0)
            before.append(state())
        print(json.dumps(before), flush=True)
        continue
    children = [fork(*child) for child in request]
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""


class Soaked:
    """Driver process of one sweep."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-c", DRIVER, str(config)]
        self._process = start_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, request: Any) -> Any:
        """Send a request to the driver; return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=60)


def one_child(draws: random.Random) -> list[Any]:
    """Return a sweep with a random fault within its first cells: [fault, rerun, error rate, seed]."""
    fault = f"{draws.choice(OFTEN)}:{draws.randint(1, 8)}:{draws.choice(('kill', 'kill', 'full', 'interrupt'))}"
    return [fault, draws.choice(("missing", "missing", "failed")), draws.choice((0.0, 0.0, 0.1)), draws.random()]


def soak(make_config: Make, write_yaml: Write, tmp_path: Path, seeds: str, disturbed: int) -> Counter[int]:
    """Sweep with faults `disturbed` times and then without; returns how the processes ended."""
    codes: Counter[int] = Counter()
    draws = random.Random(7)
    grids = {
        name: write_yaml(
            make_config(ipc="1,2,3,4,5", seeds=seeds, methods="random,random[fit=pad]", workdir=tmp_path / name),
            tmp_path / f"{name}.yaml",
        )
        for name in ("whole", "soaked")
    }
    whole, soaked = Soaked(grids["whole"]), Soaked(grids["soaked"])
    try:
        assert whole.send([[None, "missing", 0.0, 0]]) == [0]
        for point in ("store.created", "store.registering"):  # a sweep reaches these only at its start
            assert soaked.send([[f"{point}:1", "missing", 0.0, 0]]) == [-9]
        for _ in range(disturbed):
            codes.update(soaked.send([one_child(draws) for _ in range(draws.choice((1, 1, 2)))]))
            with Store(tmp_path / "soaked" / "store.sqlite") as store:  # whole after every fault
                assert set(store.states().values()) <= STATES
        assert soaked.send([[None, "failed", 0.0, 0]]) == [0]
        assert table(tmp_path / "soaked") == table(tmp_path / "whole")
        assert [path for path in (tmp_path / "soaked").rglob("*") if path.suffix in (".tmp", ".pt")] == []
        flat = soaked.send("flat")
    finally:
        whole.close()
        soaked.close()
    threads, handles, shared, memory = zip(*flat[2:], strict=True)
    assert (len(set(threads)), len(set(handles)), len(set(shared))) == (1, 1, 1), flat
    assert memory[-1] - memory[0] < 20_000_000, flat
    return codes


def test_a_short_one(make_config: Make, write_yaml: Write, tmp_path: Path) -> None:
    codes = soak(make_config, write_yaml, tmp_path, seeds="0-5", disturbed=15)
    assert min(codes[-9], codes[2] + codes[130]) >= 3, codes
    assert set(codes) <= {0, 1, 2, 130, -9}, codes


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_300_cells_and_many_faults(make_config: Make, write_yaml: Write, tmp_path: Path) -> None:
    codes = soak(make_config, write_yaml, tmp_path, seeds="0-29", disturbed=100)
    assert min(codes[-9], codes[2], codes[130]) >= 5, codes
    assert set(codes) <= {0, 1, 2, 130, -9}, codes
    assert os.path.exists(tmp_path / "soaked" / "store.sqlite")
