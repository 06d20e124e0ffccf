"""Real sweeps through the command line: real data, real training, real kills."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastdc.common.files import prepare_workdir
from fastdc.common.log import progress_shown
from fastdc.report import make_rows
from fastdc.sweep.cell_groups import split_groups
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]
Start = Callable[..., "subprocess.Popen[str]"]
Write = Callable[[SweepConfig, Path], Path]

GRID = {
    "methods": "full,random,el2n,pca",
    "ipc": "2",
    "protocols": "hard-small*epochs=25,validate_every=10",
    "set": {"full.protocol.epochs": 4},
}
TIMES = ("compress_seconds", "observer_seconds", "scoring_seconds", "selection_seconds", "train_seconds")

CACHED = """
import sys, time
from fastdc.cli.main import run
code = run(["sweep", sys.argv[1]])
print("seconds", time.process_time())
print("heavy", [name for name in ("torch", "numba", "ffcv") if name in sys.modules])
sys.exit(code)
"""

SWEEP_WITH_CHECKPOINTS = """
import sys
from functools import partial
from pathlib import Path
from fastdc.train import evaluation_request
from fastdc.sweep.sweep_config import load_config
from fastdc.sweep.cells import make_plan
from fastdc.common.files import prepare_workdir
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.store.results import Store

evaluation_request.EvaluationRequest = partial(evaluation_request.EvaluationRequest, checkpoint_seconds=0.0)
plan = make_plan(load_config(Path(sys.argv[1]), {}))
prepare_workdir(plan.config.workdir)
with Store(plan.store_path) as store:
    store.register(cell.planned() for cell in plan.cells)
    run_plan(plan, store)
"""


def rows_of(workdir: Path) -> list[dict[str, Any]]:
    """Return every row without its timings."""
    with Store(workdir / "store.sqlite", readonly=True) as store:
        rows = [row.model_dump() for row in make_rows(store.records())]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def subset_bytes(workdir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((workdir / "subsets").glob("*.beton"))}


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run an undisturbed sweep of `make_config(**GRID)` in its own folder; return the workdir."""
    folder = tmp_path_factory.mktemp("whole")
    values = {"train": f"{tiny}/train.beton", "val": f"{tiny}/val.beton", "workdir": f"{folder}/work", "seeds": "0-1"}
    values |= {"archs": "convnet1_w4", "observer": {"arch": "convnet1_w4"}, "image_size": 28, "threads": 1, **GRID}
    (folder / "grid.yaml").write_text(json.dumps(values))
    command = [sys.executable, "-m", "fastdc", "sweep", str(folder / "grid.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    (folder / "out.txt").write_text(done.stdout)
    (folder / "err.txt").write_text(done.stderr)
    return folder


def test_a_sweep_ends_in_a_table_of_every_method(whole: Path) -> None:
    out = (whole / "out.txt").read_text()
    rows = rows_of(whole / "work")
    names = ("full", "random", "el2n", "pca")
    assert {row["method"]: (row["n"], row["status"]) for row in rows} == dict.fromkeys(names, (2, "done"))
    assert all(row["top1_std"] is not None and row["steps"] > 0 and row["image_bytes"] > 0 for row in rows)
    assert all(name in out for name in names)
    assert f"8 runs: 8 done (8 of them now). Results: {whole}/work/store.sqlite" in out
    assert "8/8] " in (whole / "err.txt").read_text()


def test_every_run_keeps_its_details(whole: Path) -> None:
    with Store(whole / "work" / "store.sqlite", readonly=True) as store:
        records = store.records()
        details = [store.detail(record.key) for record in records]
    assert len(details) == 8
    for record, detail in zip(records, details, strict=True):
        assert detail is not None
        assert len(detail["per_class"]) == 3
        assert len(detail["curve"]) == record.summary["epochs"] if record.summary else False
        assert detail["environment"]["torch"]
    costs = {record.label["method"]: record.summary["cost"] for record in records if record.summary}
    assert costs["el2n"]["observer"] > 0
    assert costs["random"]["observer"] == costs["full"]["observer"] == 0


def test_a_finished_sweep_ends_at_once_and_starts_no_torch(whole: Path) -> None:
    command = [sys.executable, "-c", CACHED, str(whole / "grid.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "(0 of them now)" in done.stdout
    assert "heavy []" in done.stdout
    assert float(done.stdout.split("seconds ")[1].split()[0]) < 2.0


def test_checkpoints_do_not_pile_up_and_a_subset_has_one_lock(whole: Path) -> None:
    work = whole / "work"
    assert not any((work / "checkpoints").glob("*"))
    subsets = {path.stem for path in (work / "subsets").glob("*.beton")}
    assert {path.stem for path in (work / "subsets").glob("*.lock")} <= subsets
    names = {path.name.partition("-")[0] for path in work.iterdir()}  # a reader leaves store.sqlite-wal
    assert names == {"checkpoints", "observers", "store.sqlite", "subsets", "sweeps"}


def test_a_sweep_reports_its_observer(whole: Path) -> None:
    (folder,) = [path for path in (whole / "work" / "observers").iterdir() if path.is_dir()]
    first = (whole / "err.txt").read_text().splitlines()[0]
    assert first == f"observer {folder}: convnet1_w4, 28 px"


def wait_until(condition: Callable[[], bool], worker: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not condition() and worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def done_cells(workdir: Path) -> int:
    if not (workdir / "store.sqlite").exists():
        return 0
    with Store(workdir / "store.sqlite", readonly=True) as store:
        return list(store.states().values()).count("done")


@pytest.mark.slow  # test_crash_points kills real sweeps at chosen points
def test_the_same_command_continues_a_killed_sweep(
    whole: Path, make_config: Make, write_yaml: Write, python_process: Start, sweep_process: Start, tmp_path: Path
) -> None:
    """A sweep killed inside a training, then between two, ends in the rows and subsets of an undisturbed one."""
    config = make_config(**GRID)
    path = write_yaml(config, tmp_path / "grid.yaml")
    key = make_plan(config).cells[0].key
    checkpoint = config.workdir / "checkpoints" / key / "checkpoint.pt"
    inside = python_process(SWEEP_WITH_CHECKPOINTS, str(path))
    wait_until(checkpoint.exists, inside)
    inside.kill()
    inside.communicate()
    assert checkpoint.exists()
    between = sweep_process(path)
    wait_until(lambda: done_cells(config.workdir) >= 2, between)
    between.kill()
    between.communicate()
    before = done_cells(config.workdir)
    assert before < 8
    final = sweep_process(path)
    out, errors = final.communicate(timeout=100)
    assert final.returncode == 0, errors
    assert f"8 runs: 8 done ({8 - before} of them now)" in out
    assert not checkpoint.exists()
    assert rows_of(config.workdir) == rows_of(whole / "work")
    assert subset_bytes(config.workdir) == subset_bytes(whole / "work")


def test_networks_on_one_stream_give_the_rows_of_single_runs(make_config: Make) -> None:
    found = []
    for together, expected in (("always", [2] * 6 + [4]), ("never", [1] * 16)):
        config = make_config(
            methods="full,random",
            archs="convnet1_w4,convnet1_w6",
            together=together,
            protocols="hard-small*epochs=2,hard-small*epochs=2,order=shared",
        )
        plan = make_plan(config.model_copy(update={"workdir": config.workdir / together}))
        prepare_workdir(plan.config.workdir)
        with Store(plan.store_path) as store:
            store.register(cell.planned() for cell in plan.cells)
            # full: 2 x 2 with one order, or 2 networks per seed with their own order; random has a subset per seed
            assert sorted(map(len, split_groups(plan, plan.cells, {}))) == expected
            assert run_plan(plan, store).states == {"done": 16}
            found.append({record.key: record.summary["top1"] for record in store.records() if record.summary})
        assert not any((plan.config.workdir / "checkpoints").glob("*"))
    assert found[0] == found[1]


def test_seeds_of_a_group_for_a_gpu_give_the_rows_of_single_runs(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdc.sweep.launch.cell_worker.own_gpu_budget", lambda: 1 << 36)
    run, found, alone = CellRunner.run, [], []
    monkeypatch.setattr(CellRunner, "run", lambda own, cell: alone.append(cell.key) or run(own, cell))
    for device, expected in (("cuda", [4]), ("cpu", [1] * 4)):  # both compute on the CPU
        config = make_config(methods="random", archs="convnet1_w4,convnet1_w6")
        plan = make_plan(config.model_copy(update={"workdir": config.workdir / device}))
        plan = replace(plan, device=device)
        prepare_workdir(plan.config.workdir)
        with Store(plan.store_path) as store:
            store.register(cell.planned() for cell in plan.cells)
            assert list(map(len, split_groups(plan, plan.cells, {}))) == expected
            assert run_plan(plan, store).states == {"done": 4}
            assert len(alone) == (0 if device == "cuda" else 4)
            rows = {record.key: record.summary for record in store.records() if record.summary}
        found.append({key: (row["top1"], row["seed"], row["arch"], row["image_bytes"]) for key, row in rows.items()})
    assert found[0] == found[1]


def test_a_damaged_checkpoint_of_a_group_affects_only_its_cell(make_config: Make) -> None:
    plan = make_plan(make_config(methods="full", seeds="0", archs="convnet1_w4,convnet1_w6", together="always"))
    checkpoint = plan.config.workdir / "checkpoints" / plan.cells[0].key / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"half a checkpoint")
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        outcome = run_plan(plan, store)
    assert outcome.states == {"done": 2}


def test_a_damaged_checkpoint_costs_only_time(make_config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(make_config(seeds="0"))
    checkpoint = plan.config.workdir / "checkpoints" / plan.cells[0].key / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"half a checkpoint")
    with Store(plan.store_path) as store, progress_shown(False):
        store.register(cell.planned() for cell in plan.cells)
        outcome = run_plan(plan, store)
    assert outcome.states == {"done": 1}
    assert not checkpoint.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{plan.cells[0].name}: starts over ({checkpoint}: not a whole checkpoint")


def test_a_signal_ends_a_sweep_with_130_and_keeps_results(
    make_config: Make, write_yaml: Write, sweep_process: Start, tmp_path: Path
) -> None:
    """SIGTERM behaves like Ctrl-C in `tests/faults/test_interrupts.py`."""
    config = make_config(protocols="hard-small*epochs=1,hard-small*epochs=3000")
    worker = sweep_process(write_yaml(config, tmp_path / "grid.yaml"))
    wait_until(lambda: done_cells(config.workdir) == 2, worker)
    time.sleep(0.1)
    worker.send_signal(signal.SIGTERM)
    out, errors = worker.communicate(timeout=30)
    assert worker.returncode == 130, errors
    assert "Traceback" not in errors + out
    assert "interrupted; finished runs are kept, the same command continues the sweep" in errors
    with Store(config.workdir / "store.sqlite", readonly=True) as store:
        assert sorted(store.states().values()) == ["done", "done", "interrupted", "pending"]


@pytest.mark.slow  # tests/faults/test_diverged.py has the row
def test_a_diverged_run_is_a_row_and_exit_code_1(
    make_config: Make, write_yaml: Write, sweep_process: Start, tmp_path: Path
) -> None:
    settings = {"full.protocol.epochs": 1, "random.protocol.lr": 1e30, "random.protocol.epochs": 30}
    config = make_config(methods="full,random", set=settings, seeds="0")
    worker = sweep_process(write_yaml(config, tmp_path / "grid.yaml"))
    out, errors = worker.communicate(timeout=60)
    assert worker.returncode == 1, errors
    states = {row["method"]: row["status"] for row in rows_of(config.workdir)}
    assert states == {"full": "done", "random": "diverged"}
    assert re.search(r"seed 0 diverged: .*(not finite|gradient norm is|loss is)", out), out
    assert "--rerun failed tries them again" in errors
    assert "Traceback" not in errors + out


def cut(content: bytes) -> bytes:
    return content[:5000]


def zero_a_payload(content: bytes) -> bytes:
    """Zero the bytes of the last stored image, before the allocation table; the structure stays sound."""
    start = content.rindex(b"\xff\xd8\xff")
    return content[:start] + bytes(200) + content[start + 200 :]


def test_damaged_subsets_are_made_again(whole: Path) -> None:
    work = whole / "work"
    before, rows = subset_bytes(work), rows_of(work)
    for victim, damage in zip(sorted((work / "subsets").glob("random-*.beton")), (cut, zero_a_payload), strict=True):
        victim.write_bytes(damage(victim.read_bytes()))
        assert victim.read_bytes() != before[victim.name]
    command = [sys.executable, "-m", "fastdc", "sweep", str(whole / "grid.yaml"), "--rerun", "all", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env={**os.environ, "FASTDC_DEBUG": "1"})
    assert done.returncode == 0, done.stderr
    assert "(8 of them now)" in done.stdout
    assert done.stderr == ""
    assert subset_bytes(work) == before
    assert rows_of(work) == rows


def test_a_replaced_subset_is_made_again(make_config: Make) -> None:
    plan = make_plan(make_config(methods="random", seeds="0-1"))
    prepare_workdir(plan.config.workdir)
    subset, other = (cell.subset for cell in plan.cells)
    assert subset is not None
    assert other is not None

    def files(path: Path) -> tuple[bytes, bytes]:
        return path.read_bytes(), path.with_suffix(".json").read_bytes()

    with Store(plan.store_path) as store:
        cost = CellRunner(plan, store).make_subset(subset)
        CellRunner(plan, store).make_subset(other)
        made = files(subset.path)
        assert CellRunner(plan, store).make_subset(subset) == cost
        assert not any(isinstance(value, list) for value in cost.values())  # only seconds reach the rows
        for put in (files(other.path), (made[0], made[1].replace(b'"hints": {}', b'"hints": {"tile_grid": 2}'))):
            assert put != made
            subset.path.write_bytes(put[0])
            subset.path.with_suffix(".json").write_bytes(put[1])
            CellRunner(plan, store).make_subset(subset)
            assert files(subset.path) == made
        store.keep_subset_cost(subset.key, "random", cost)  # as an older fastdc stored it
        assert CellRunner(plan, store).make_subset(subset) == cost
