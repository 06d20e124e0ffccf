"""kill -9 at every named point of a sweep: the same command again ends in the table of an undisturbed sweep."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastdc
from fastdc.common import crash_points as faults
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from tests.faults.real_sweep import table
from tests.processes import start_process

Make = Callable[..., SweepConfig]
Run = Callable[[Path, str | None], int]
GRID: dict[str, Any] = {
    "methods": "random,el2n[last_epoch=2]",
    "seeds": "0",
    "observer": {"arch": "convnet1_w4", "epochs": 4},
}
KILLED = -signal.SIGKILL
# In a real sweep: a subset without a stored cost, a result that is not committed.
REAL = ["subset.made:1", "store.finishing:1"]
MORE = [f"{point}:{count}" for point in faults.POINTS for count in (1, 2, 4, 7)]

FAKE = """
import os, sys
from pathlib import Path
from fastdc.common import crash_points as faults
from fastdc.common.errors import WorkerError
from fastdc.common.files import write_atomic
from fastdc.sweep.sweep_config import load_config
from fastdc.sweep.cells import make_plan
from fastdc.common.files import prepare_workdir
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.launch import in_process
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.store.results import Store

plan = make_plan(load_config(Path(sys.argv[1]), {}))

def execute(runner, cell):
    kept = plan.config.workdir / "checkpoints" / cell.key
    kept.mkdir(parents=True, exist_ok=True)
    write_atomic(kept / "checkpoint.pt", b"state")
    accuracy = int(cell.key[:4], 16) / 656
    numbers = dict.fromkeys(("epochs", "steps", "images", "image_bytes", "label_bytes", "train_seconds"), 1)
    with open(sys.argv[2], "a") as log:
        log.write(f"{cell.key}\\n")
    return CellResult({"top1": accuracy, "top1_best": accuracy, "top5": None, "cost": {}, **numbers}, {}, kept)

def here(*_):
    raise WorkerError("what a cell does is changed in this process only")

in_process.run_in_own_process = here
CellRunner.run = execute

def sweep():
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        return run_plan(plan, store).exit_code

for wish in sys.argv[3:]:
    child = os.fork()
    if not child:
        code = 70
        try:
            faults.arm(None if wish == "-" else wish)
            code = sweep()
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def run_real() -> Iterator[Run]:
    """Run `fastdc sweep CONFIG` with a fault or None; return its exit code, or minus a signal."""
    command = [sys.executable, "-m", "tests.faults.real_sweep"]
    driver = start_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert driver.stdin is not None
    assert driver.stdout is not None

    def run(config: Path, fault: str | None) -> int:
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write(json.dumps({"config": str(config), "fault": fault}) + "\n")
        driver.stdin.flush()
        return int(json.loads(driver.stdout.readline())["code"])

    yield run
    driver.stdin.close()
    driver.wait(20)
    driver.stdout.close()


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """Return table and subsets of the sweep without a fault."""
    return {}


def leftovers(workdir: Path) -> list[str]:
    return [path.name for path in workdir.rglob("*") if path.name.endswith((".tmp", ".part"))]


def subsets(workdir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((workdir / "subsets").glob("*.beton"))}


@pytest.fixture
def reached(
    run_real: Run,
    undisturbed: dict[str, Any],
    make_config: Make,
    write_yaml: Callable[[SweepConfig, Path], Path],
    tmp_path: Path,
) -> Callable[[str], bool]:
    """Return whether a sweep reaches a point; it is then killed there, and the same command must complete it."""

    def check(wish: str) -> bool:
        if not undisturbed:
            whole = write_yaml(make_config(**GRID, workdir=tmp_path / "whole"), tmp_path / "whole.yaml")
            assert run_real(whole, None) == 0
            undisturbed.update(table=table(tmp_path / "whole"), subsets=subsets(tmp_path / "whole"))
        work = tmp_path / "work"
        config = write_yaml(make_config(**GRID, workdir=work), tmp_path / "grid.yaml")
        code = run_real(config, wish)
        if code == 0:
            return False
        assert code == KILLED
        before = (work / "store.sqlite").exists() and done(work)
        assert run_real(config, None) == 0
        assert table(work) == undisturbed["table"]
        assert subsets(work) == undisturbed["subsets"]
        assert leftovers(work) == []
        assert not before or set(before.items()) <= set(done(work).items())
        return True

    return check


def done(work: Path) -> dict[str, float]:
    """Return when each finished run was stored, by key: a repeated run would have another time."""
    with Store(work / "store.sqlite", readonly=True) as store:
        return {record.key: record.changed for record in store.records() if record.state == "done"}


@pytest.mark.parametrize("wish", REAL)
def test_a_real_sweep_that_is_killed(wish: str, reached: Callable[[str], bool]) -> None:
    assert reached(wish)


@pytest.mark.slow
@pytest.mark.parametrize("wish", sorted(set(MORE) - set(REAL)))
def test_a_real_sweep_that_is_killed_anywhere(wish: str, reached: Callable[[str], bool]) -> None:
    if not reached(wish):
        pytest.skip("a sweep this small does not reach that point so often")


def test_kill_at_every_point_one_after_the_other(
    make_config: Make, write_yaml: Callable[[SweepConfig, Path], Path], tmp_path: Path
) -> None:
    """One sweep of 12 runs is killed at each of its points in turn, and loses and repeats nothing."""
    once = ["store.created", "store.registering"]  # a sweep reaches these only at its start
    often = [point for point in faults.POINTS if point not in (*once, "subset.made")]
    wishes = [f"{point}:1" for point in (*once, *often)] + [f"{point}:2" for point in often]
    codes = {}
    for name, order in (("killed", [*wishes, "-"]), ("whole", ["-"])):
        grid = make_config(ipc="1,2,3", seeds="0-3", workdir=tmp_path / name)
        config = write_yaml(grid, tmp_path / f"{name}.yaml")
        command = [sys.executable, "-c", FAKE, str(config), str(tmp_path / f"{name}.log"), *order]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=100)
        codes[name] = list(map(int, finished.stdout.split()))
    assert codes["whole"] == [0]
    assert codes["killed"][-1] == 0
    assert dict(zip(wishes, codes["killed"], strict=False)) == dict.fromkeys(wishes, KILLED)
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    assert leftovers(tmp_path / "killed" / "checkpoints") == []
    ran = (tmp_path / "killed.log").read_text().split()
    assert len(set(ran)) == 12
    # Only runs that were not committed ran again: those killed before or in their commit.
    assert len(ran) - 12 <= sum(wish.startswith(("file.", "store.claimed", "store.finishing")) for wish in wishes)


def test_the_list_of_points_matches_the_code(tmp_path: Path) -> None:
    package = Path(fastdc.__file__).parent
    found = {name for path in package.rglob("*.py") for name in re.findall(r'\bhit\("([^"]+)"\)', path.read_text())}
    assert found == set(faults.POINTS)
    readers = [path.name for path in package.rglob("*.py") if "FASTDC_FAULT" in path.read_text()]
    assert readers == ["crash_points.py"]
    assert "FASTDC_FAULT" not in os.environ


@pytest.mark.parametrize("wish", ["file.written", "file.written:x", "no.such:1", "file.written:1:explode"])
def test_an_invalid_fault_is_refused(wish: str) -> None:
    with pytest.raises(ValueError, match="expected POINT:COUNT"):
        faults.arm(wish)
    faults.arm(None)
