"""Runs of a plan with an instant executor: states, faults, sharing."""

import errno
import sqlite3
import time
from pathlib import Path

import pytest

from fastdc.common.errors import DivergedError, MethodError, OutputError, StoreError
from fastdc.common.files import prepare_workdir
from fastdc.observe import observe
from fastdc.report import make_rows
from fastdc.sweep.cell_result import CellResult, describe_error
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.heartbeats import SilentHolders
from fastdc.sweep.store.results import Store
from tests.sweep.instant_sweep import Make, accuracy, failing, filled_store, sweep


def test_finished_cells_are_never_run_again(make_config: Make) -> None:
    plan = make_plan(make_config(methods="all", ipc="2,30"))
    skipped = len(plan.cells) - (runs := len(plan.runnable))
    assert (runs > 12, skipped >= 2) == (True, True)  # four methods and more; PCA lacks images for 30 mosaics
    outcome, ran = sweep(plan)
    assert outcome.states == {"done": runs, "skipped": skipped}
    assert (outcome.exit_code, outcome.ran, len(set(ran))) == (0, runs, runs)
    outcome, ran = sweep(plan)
    assert (outcome.states["done"], ran) == (runs, [])


def test_a_larger_grid_runs_only_what_is_new(make_config: Make) -> None:
    sweep(make_plan(make_config(seeds="0-1")))
    _, ran = sweep(make_plan(make_config(seeds="0-3")))
    assert len(ran) == 2


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (MethodError("class 'moss' has 2\nimages"), "failed", "class 'moss' has 2 images"),
        (DivergedError("loss is nan in epoch 3"), "diverged", "loss is nan in epoch 3"),
        (TypeError("not a tensor"), "failed", "unexpected TypeError: not a tensor"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "failed", "lower the protocol's batch_size"),
        (MemoryError(), "failed", "out of memory"),
    ],
    ids=["expected", "diverged", "bug", "cuda memory", "memory"],
)
def test_a_failed_cell_is_a_row_and_the_others_continue(
    make_config: Make, isolated: list[str], error: Exception, state: str, reason: str
) -> None:
    plan = make_plan(make_config(seeds="0-2"))
    outcome, ran = sweep(plan, failing(1, error))
    assert outcome.states == {"done": 2, state: 1}
    assert (outcome.exit_code, len(ran) + len(isolated)) == (1, 3)
    with Store(plan.store_path) as store:
        (row,) = make_rows(store.records())
    assert (row.n, row.seeds, row.status) == (2, 3, "partial")
    assert reason in (row.reason or "")
    assert "seed 1" in (row.reason or "")


def test_failed_cells_wait_for_rerun_failed(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-2"))
    sweep(plan, failing(1, MethodError("no")))
    outcome, ran = sweep(plan)
    assert (outcome.exit_code, ran) == (1, [])
    outcome, ran = sweep(plan, rerun="failed")
    assert (outcome.exit_code, len(ran), outcome.states) == (0, 1, {"done": 3})
    _, ran = sweep(plan, rerun="all")
    assert len(ran) == 3


def summaries(plan: Plan) -> list[float]:
    with Store(plan.store_path, readonly=True) as store:
        return sorted(record.summary["top1"] for record in store.records() if record.summary)


def test_a_failed_redo_keeps_the_earlier_result_and_is_reported(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-2"))
    sweep(plan)
    before = summaries(plan)
    outcome, ran = sweep(plan, failing(1, MethodError("no memory")), rerun="all")
    assert (outcome.states, outcome.kept, outcome.exit_code, len(ran)) == ({"done": 3}, 1, 1, 3)
    assert summaries(plan) == before
    outcome, ran = sweep(plan)
    assert (outcome.kept, outcome.exit_code, ran) == (0, 0, [])


def test_an_interrupted_redo_leaves_old_results_to_a_plain_rerun(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-2"))
    sweep(plan)
    before = summaries(plan)

    def execute(cell: Cell) -> CellResult:
        if cell.seed == 1:
            raise KeyboardInterrupt
        result = accuracy(cell)
        return CellResult({**result.summary, "top1": 0.0}, result.detail)

    with pytest.raises(KeyboardInterrupt):
        sweep(plan, execute, rerun="all")
    with Store(plan.store_path, readonly=True) as store:
        assert set(store.states().values()) == {"done"}
        (row,) = make_rows(store.records())
    assert (row.n, row.status) == (3, "done")
    assert len(set(summaries(plan)) & set(before)) == 2  # one was replaced before the interruption
    outcome, ran = sweep(plan)
    assert (outcome.states, ran) == ({"done": 3}, [])
    outcome, ran = sweep(plan, rerun="all")  # continues with the remaining two
    assert (outcome.states, len(ran)) == ({"done": 3}, 2)
    assert summaries(plan)[0] == 0.0  # runs repeated before the interruption are not repeated again
    outcome, ran = sweep(plan, rerun="all")
    assert (outcome.states, len(ran)) == ({"done": 3}, 3)
    assert summaries(plan) == before


def test_a_full_disk_ends_the_sweep_and_a_bad_path_only_its_cell(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-2"))
    with pytest.raises(OSError, match="No space left"):
        sweep(plan, failing(1, OSError(errno.ENOSPC, "No space left on device", "/d/x")))
    with Store(plan.store_path) as store:
        assert sorted(store.states().values()) == ["done", "interrupted", "pending"]
    outcome, _ = sweep(plan, failing(1, PermissionError(errno.EACCES, "Permission denied", "/d/x")))
    assert outcome.states == {"done": 2, "failed": 1}
    with Store(plan.store_path) as store:
        (row,) = make_rows(store.records())
    assert row.reason == "seed 1 failed: /d/x: Permission denied; check path and permissions"


def test_an_unexpected_error_keeps_its_traceback_in_the_store(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0"))
    sweep(plan, failing(0, KeyError("x")))
    with sqlite3.connect(plan.store_path) as db:
        assert "Traceback" in db.execute("SELECT trace FROM runs").fetchone()[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OutputError("disk full"), SystemExit(3)], ids=repr)
def test_an_error_that_ends_the_sweep_releases_the_cell_and_keeps_the_others(
    make_config: Make, isolated: list[str], error: BaseException
) -> None:
    plan = make_plan(make_config(seeds="0-2"))

    def execute(cell: Cell) -> CellResult:
        if cell.seed == 1:
            raise error
        return accuracy(cell)

    with pytest.raises(type(error)):
        sweep(plan, execute)
    with Store(plan.store_path) as store:
        assert sorted(store.states().values()) == ["done", "interrupted", "pending"]
    outcome, ran = sweep(plan)
    ended_process = [plan.cells[1].key] if isinstance(error, SystemExit) else []
    assert (outcome.states, len(ran), isolated) == ({"done": 3}, 2 - len(ended_process), ended_process)


def test_a_cell_that_lost_a_worker_runs_last_and_one_that_was_given_back_does_not(
    make_config: Make, isolated: list[str]
) -> None:
    plan = make_plan(make_config(seeds="0-2"))
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        lease = store.claim(plan.cells[0].key)
        assert lease is not None
        store.expire(lease.key, lease.token)
        for cell in (*plan.cells[:2], plan.cells[1]):
            lease = store.claim(cell.key)
            assert lease is not None
            store.release(lease)
    _, ran = sweep(plan)
    assert (ran, isolated) == ([plan.cells[1].key, plan.cells[2].key], [plan.cells[0].key])


def test_a_result_that_is_not_a_number_is_a_failed_run(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0"))
    outcome, _ = sweep(plan, lambda cell: CellResult({**accuracy(cell).summary, "top1": float("nan")}, {}))
    assert outcome.states == {"failed": 1}


def test_a_worker_without_heartbeats_loses_its_run(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(make_config(seeds="0"))
    prepare_workdir(plan.config.workdir)
    key = plan.cells[0].key
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        lease = store.claim(key)
        assert lease is not None
        with sqlite3.connect(plan.store_path) as db:
            db.execute("UPDATE runs SET host = 'another-host', heartbeat = heartbeat + 1e9")  # and a clock far ahead
        assert store.claim(key) is None
        monkeypatch.setattr("fastdc.sweep.store.heartbeats.SILENCE_SECONDS", 0.2)
        silent = SilentHolders()
        silent.expire(store, {key})
        assert store.states()[key] == "running"
        time.sleep(0.3)
        store.heartbeat(lease)
        silent.expire(store, {key})
        assert store.states()[key] == "running"  # it sent a heartbeat
        for jump in (0.0, 1e10):  # heartbeats too, by clocks that jump
            with sqlite3.connect(plan.store_path) as db:
                db.execute("UPDATE runs SET heartbeat = ?", (jump,))
            time.sleep(0.3)
            silent.expire(store, {key})
            assert store.states()[key] == "running"
        time.sleep(0.3)
        silent.expire(store, {key})
        assert store.states()[key] == "pending"


def test_a_dry_run_names_the_observer(make_config: Make) -> None:
    config = make_config(methods="el2n", seeds="0")
    assert "observer: convnet1_w4, 28 px (to be trained)" in preview(config)
    assert not any(line.startswith("observer") for line in preview(make_config(methods="random")))
    observe(config.train, config.workdir, make_plan(config).observer, stop_after=1)
    larger = make_config(methods="el2n", seeds="0", observer={}, image_size=32)
    lines = preview(larger)
    assert f"observer: convnet1_w4, 28 px (found in {config.workdir})" in lines
    assert "warning: the observer has 28 px and the runs have 32; --observer image_size=32 trains another one" in lines
    chosen = {"arch": "convnet1_w4", "image_size": 28}
    lines = preview(larger.model_copy(update={"observer": chosen}))
    assert not any(line.startswith("warning") for line in lines)


def test_a_dry_run_writes_nothing_and_counts_what_is_cached(make_config: Make) -> None:
    config = make_config(methods="all", ipc="2,30")
    plan = make_plan(config)
    skipped = len(plan.cells) - (runs := len(plan.runnable))
    lines = preview(config)
    assert not config.workdir.exists()
    assert f"{len(plan.cells)} runs: 0 cached, {runs} to run, {skipped} skipped" in lines
    assert any("by a rough rate" in line for line in lines)
    assert any("(new subsets " in line and ", observers " in line and "GB free at" in line for line in lines)
    sweep(make_plan(make_config(methods="random", ipc="2")))
    lines = preview(config)
    assert f"{len(plan.cells)} runs: 2 cached, {runs - 2} to run, {skipped} skipped" in lines
    assert any(
        f"{runs - 4} trainings from similar runs in the store; 2 trainings" in line and "by a rough rate" in line
        for line in lines
    )
    assert sum(line.startswith("cached ") for line in lines) == 2


def test_messages_of_errors_are_one_line() -> None:
    assert describe_error(ValueError("a\n  b")) == "unexpected ValueError: a b"
    assert describe_error(MethodError("")) == "no message"


# ------------------------------------------------------------------ speed (design.md: <= 1 s, <= 50 ms)
# In CPU seconds of this process, which equal wall time on an idle machine.


def test_a_checkpoint_is_removed_only_after_its_row_is_stored(make_config: Make, tmp_path: Path) -> None:
    kept = tmp_path / "checkpoint"
    kept.mkdir()

    def execute(cell: Cell) -> CellResult:
        result = accuracy(cell)
        summary = {**result.summary, "top1": float("nan")} if cell.seed else result.summary
        return CellResult(summary, result.detail, kept)

    plan = make_plan(make_config(seeds="1"))
    sweep(plan, execute)
    assert kept.exists()  # a result that could not be stored leaves it
    sweep(make_plan(make_config(seeds="0")), execute)
    assert not kept.exists()


def test_a_skipped_row_that_another_sweep_can_run_is_removed_silently(make_config: Make) -> None:
    short = make_plan(make_config(methods="all", seeds="0", observer={"arch": "convnet1_w4", "epochs": 3}))
    longer = make_plan(make_config(methods="el2n", seeds="0"))
    assert any(cell.label["method"] == "el2n" and cell.skip for cell in short.cells)

    def execute(cell: Cell) -> CellResult:
        with Store(longer.store_path) as other:
            other.register(cell.planned() for cell in longer.cells)
        return accuracy(cell)

    outcome, _ = sweep(short, execute)
    assert outcome.states["skipped"] == len(short.cells) - len(short.runnable)


def test_a_damaged_store_is_refused_before_work_is_added_to_it(make_config: Make) -> None:
    path = filled_store(make_plan(make_config(seeds="0-49")))
    whole = bytearray(path.read_bytes())
    page = max(range(1, len(whole) // 4096), key=lambda page: whole[page * 4096 : (page + 1) * 4096].count(b'"curve"'))
    whole[page * 4096 : page * 4096 + 16] = b"\x07" * 16  # a page without states and labels
    path.write_bytes(whole)
    assert run_sweep(make_config(seeds="0-49"), show_progress=False)[1].ran == 0  # nothing to add
    with pytest.raises(StoreError, match=r"sqlite: damaged \("):
        run_sweep(make_config(seeds="0-50"), show_progress=False)
    assert path.read_bytes() == whole
