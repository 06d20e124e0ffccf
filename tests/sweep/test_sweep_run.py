"""Runs of a plan with an instant executor: states, faults, sharing, speed."""

import errno
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import torch

from fastdc.common.errors import DivergedError, MethodError, OutputError, StoreError
from fastdc.common.files import prepare_workdir
from fastdc.report import make_rows
from fastdc.sweep.cell_groups import split_groups
from fastdc.sweep.cell_result import CellResult, one_line
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.launch.cell_worker import release_memory
from fastdc.sweep.launch.workers import Ended, Event
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.run_cells import Outcome, run_plan, run_sweep
from fastdc.sweep.store.heartbeats import SilentHolders
from fastdc.sweep.store.results import Rerun, Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]


def accuracy(cell: Cell) -> CellResult:
    """Return a result that depends only on the cell."""
    summary = {
        "top1": int(cell.key[:4], 16) / 656.0,
        "top5": None,
        "top1_best": 99.0,
        "epochs": 2,
        "steps": 4,
        "images": 6,
        "image_bytes": 600,
        "label_bytes": 6,
        "seconds": 0.1,
        "train_seconds": 0.1,
        "cost": {"observer": 1.0, "selection": 0.1, "writing": 0.2},
    }
    return CellResult(summary, {"per_class": [1.0, 2.0, 3.0]})


def sweep(
    plan: Plan,
    execute: Callable[[Cell], CellResult] = accuracy,
    rerun: Rerun = "missing",
    train_together: Callable[[Sequence[Cell]], list[CellResult | DivergedError]] | None = None,
) -> tuple[Outcome, list[str]]:
    """Run a plan like `run_sweep`; return the outcome and the executed keys."""
    prepare_workdir(plan.config.workdir)
    ran: list[str] = []

    def counted(_runner: CellRunner, cell: Cell) -> CellResult:
        ran.append(cell.key)
        return execute(cell)

    with pytest.MonkeyPatch.context() as patch, Store(plan.store_path) as store:
        patch.setattr(CellRunner, "run", counted)
        patch.setattr(CellRunner, "run_together", lambda _, cells: train_together(cells) if train_together else None)
        store.register((cell.planned() for cell in plan.cells), rerun)
        return run_plan(plan, store, redo=rerun == "all"), ran


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


def failing(seed: int, error: Exception) -> Callable[[Cell], CellResult]:
    def execute(cell: Cell) -> CellResult:
        if cell.seed == seed:
            raise error
        return accuracy(cell)

    return execute


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
    make_config: Make, error: BaseException
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
    assert (outcome.states, len(ran)) == ({"done": 3}, 2)


def test_a_cell_that_often_killed_its_process_runs_last(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-2"))
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        for _ in range(3):
            lease = store.claim(plan.cells[0].key)
            assert lease is not None
            store.release(lease)
    _, ran = sweep(plan)
    assert ran == [plan.cells[1].key, plan.cells[2].key, plan.cells[0].key]


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
        f"{runs - 4} trainings from like runs in the store; 2 trainings" in line and "by a rough rate" in line
        for line in lines
    )
    assert sum(line.startswith("cached ") for line in lines) == 2


def test_messages_of_errors_are_one_line() -> None:
    assert one_line(ValueError("a\n  b")) == "unexpected ValueError: a b"
    assert one_line(MethodError("")) == "no message"


# ------------------------------------------------------------------ speed (design.md: <= 1 s, <= 50 ms)
# In CPU seconds of this process, which equal wall time on an idle machine.


def filled_store(plan: Plan) -> Path:
    """Fill the plan's store with finished cells, directly by SQL."""
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
    summary = '{"top1": 50.0, "top5": null, "top1_best": 51.0, "train_seconds": 1.0, "cost": {}}'
    detail = '{"curve": [' + ",".join(['{"epoch": 1, "lr": 0.001, "loss": 1.0, "top1": 50.0}'] * 60) + "]}"
    with closing(sqlite3.connect(plan.store_path)) as db:
        db.execute("UPDATE runs SET state = 'done'")
        db.execute("INSERT INTO results SELECT key, ?, ? FROM runs", (summary, detail))
        db.commit()
    return plan.store_path


@pytest.mark.timed
def test_ten_thousand_finished_cells_resume_within_a_second(make_config: Make) -> None:
    config = make_config(methods="random", ipc="1-10", seeds="0-999")
    plan = make_plan(config)
    assert len(plan.cells) == 10_000
    filled_store(plan)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        outcome, ran = sweep(make_plan(config))
        times.append(time.perf_counter() - start)
        assert (outcome.states, ran) == ({"done": 10_000}, [])
    assert min(times) < 1.0, times


@pytest.mark.timed
def test_a_dry_run_of_ten_thousand_cells_takes_at_most_a_second_and_a_half(make_config: Make) -> None:
    config = make_config(methods="random", ipc="1-10", seeds="0-999")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        lines = preview(config)
        times.append(time.perf_counter() - start)
    assert "10000 runs: 0 cached, 10000 to run, 0 skipped" in lines
    assert min(times) < 1.5, times


@pytest.mark.timed
def test_a_cell_costs_no_more_than_50_ms_besides_its_work(make_config: Make) -> None:
    plan = make_plan(make_config(methods="random", ipc="1-10", seeds="0-4"))
    start = time.perf_counter()
    outcome, ran = sweep(plan)
    per_cell = (time.perf_counter() - start) / len(plan.cells)
    assert (outcome.states["done"], len(ran)) == (50, 50)
    assert per_cell < 0.05, per_cell


ARCHS = ("convnet1_w4", "convnet1_w6", "convnet1_w8")


@pytest.fixture
def grouped(make_config: Make) -> Callable[..., Plan]:
    """Plan cells that are trained in groups with different networks."""
    return lambda seeds="0", archs=ARCHS: make_plan(make_config(seeds=seeds, archs=archs, together="always"))


def test_cells_that_are_trained_together_end_separately(grouped: Callable[..., Plan]) -> None:
    attempted: list[int] = []

    def attempt(cells: Sequence[Cell]) -> list[CellResult | DivergedError]:
        attempted.append(len(cells))
        return [DivergedError("loss is nan") if cell.arch == ARCHS[1] else accuracy(cell) for cell in cells]

    plan = grouped("0-1")
    with Store(plan.store_path) as store:  # one of them was started before, and trains alone
        store.register(cell.planned() for cell in plan.cells)
        for _ in range(2):
            lease = store.claim(plan.cells[0].key)
            assert lease is not None
            store.release(lease)
    outcome, ran = sweep(plan, train_together=attempt)
    assert outcome.states == {"done": 4, "diverged": 2}
    assert (outcome.ran, sorted(attempted), ran) == (6, [2, 3], [plan.cells[0].key])


def test_a_group_that_fails_is_run_one_by_one_and_each_result_is_stored_at_once(grouped: Callable[..., Plan]) -> None:
    def attempt(cells: Sequence[Cell]) -> list[CellResult | DivergedError]:
        raise MemoryError

    def execute(cell: Cell) -> CellResult:
        if cell.arch == ARCHS[2]:
            raise KeyboardInterrupt
        return accuracy(cell)

    plan = grouped()
    with pytest.raises(KeyboardInterrupt):
        sweep(plan, execute, train_together=attempt)
    with Store(plan.store_path) as store:
        assert sorted(store.states().values()) == ["done", "done", "interrupted"]


def test_cells_that_ended_their_process_are_no_longer_grouped(grouped: Callable[..., Plan]) -> None:
    plan = grouped()
    first, second, third = plan.cells
    assert split_groups(plan, plan.cells, {second.key: 1, third.key: 0}) == [[first, third], [second]]
    assert split_groups(plan, plan.cells, {}) == [[first, second, third]]


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


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the keys of the cells that get their own processes, here instant ones."""
    keys: list[str] = []

    def isolate(_plan: Plan, _costs: object, cell: Cell) -> Iterator[Event]:
        keys.append(cell.key)
        if len(keys) == 4:
            raise KeyboardInterrupt
        yield Ended(cell.key, accuracy(cell))

    monkeypatch.setattr("fastdc.sweep.launch.in_process.run_in_own_process", isolate)
    return keys


@pytest.mark.parametrize(
    ("message", "alone"),
    [
        ("CUDA error: an illegal memory access was encountered", 3),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", 3),
        ("CUDA out of memory", 1),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", 1),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", 1),
        ("shape mismatch", 0),
    ],
)
def test_cells_after_a_lost_gpu_or_memory_run_in_their_own_processes(
    make_config: Make, isolated: list[str], message: str, alone: int
) -> None:
    plan = make_plan(make_config(seeds="0-3"))
    outcome, _ = sweep(plan, failing(0, RuntimeError(message)))
    assert (outcome.states, len(isolated)) == ({"failed": 1, "done": 3}, alone)


@pytest.mark.parametrize(
    ("cause", "calls"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), 2),
        (RuntimeError("CUDA error: unspecified launch failure"), 2),
        (ValueError("no such layer"), 1),
    ],
    ids=repr,
)
def test_a_set_that_the_machine_failed_is_tried_again_and_one_that_the_method_failed_is_not(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cause: Exception, calls: int
) -> None:
    made: list[object] = []

    def fail(*_: object, **__: object) -> None:
        made.append(_)
        raise MethodError("the images do not fit") from cause

    monkeypatch.setattr("fastdc.subsets.compress.make_subset", fail)
    plan = make_plan(make_config())
    subset = plan.cells[0].subset
    assert subset is not None
    with Store(tmp_path / "store.sqlite") as store:
        runner = CellRunner(plan, store)
        for _ in range(2):
            with pytest.raises(MethodError, match="do not fit"):
                runner.make_subset(subset)
    assert len(made) == calls


@pytest.mark.parametrize("message", ["CUDA out of memory", "CUDA error: an illegal memory access was encountered"])
def test_memory_of_a_gpu_is_free_before_another_process_starts(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, isolated: list[str], message: str
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(CellRunner, "forget_teacher", lambda _: calls.append("teacher"))
    monkeypatch.setattr("fastdc.sweep.launch.cell_worker.release_memory", lambda: calls.append("memory") is None)
    plan = make_plan(make_config(seeds="0-1"))
    sweep(plan, failing(0, RuntimeError(message)))
    sweep(plan, rerun="failed")  # what failed through the machine runs alone
    assert (calls, len(isolated)) == (["teacher", "memory"] * 2, 2)


def test_a_gpu_that_cannot_free_memory_counts_as_lost(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, isolated: list[str]
) -> None:
    monkeypatch.setattr("fastdc.sweep.launch.cell_worker.release_memory", lambda: False)
    outcome, _ = sweep(make_plan(make_config(seeds="0-3")), failing(0, RuntimeError("CUDA out of memory")))
    assert (outcome.states, len(isolated)) == ({"failed": 1, "done": 3}, 3)


@pytest.mark.parametrize("broken", ["synchronize", "empty_cache"])
def test_a_gpu_that_cannot_free_memory_ends_no_sweep(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 1)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    assert release_memory()
    monkeypatch.setattr(torch.cuda, broken, fail)
    assert not release_memory()


def test_a_process_that_only_looked_at_its_gpu_takes_no_memory_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("the first use of a GPU")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    assert release_memory()


def test_a_forgotten_teacher_is_loaded_again_and_one_that_failed_is_not(make_config: Make, tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        runner = CellRunner(make_plan(make_config()), store)
        for kept, expected in ((torch.nn.Linear(1, 1), None), (error := MethodError("no"), error)):
            runner._teacher = kept  # type: ignore[assignment]
            runner.forget_teacher()
            assert runner._teacher is expected


def test_memory_that_checked_teachers_took_is_free_before_workers_start(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[object] = []

    def end() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.check_teachers", lambda *_: checked.append(_))
    monkeypatch.setattr("fastdc.sweep.run_cells.release_memory", end)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(make_config(), show_progress=False)
    assert checked


def test_memory_that_a_method_names_as_its_cause_isolates_the_next_cell(make_config: Make, isolated: list[str]) -> None:
    error = MethodError("the images do not fit")
    error.__cause__ = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    outcome, _ = sweep(make_plan(make_config(seeds="0-3")), failing(0, error))
    assert (outcome.states, len(isolated)) == ({"failed": 1, "done": 3}, 1)


def test_a_group_that_loses_the_gpu_fails_no_cell_and_an_interrupt_releases_all(
    grouped: Callable[..., Plan], isolated: list[str]
) -> None:
    lost = RuntimeError("CUDA error: an illegal memory access was encountered")

    def attempt(_cells: Sequence[Cell]) -> list[CellResult | DivergedError]:
        raise lost

    plan = grouped("0-1")
    with pytest.raises(KeyboardInterrupt):
        sweep(plan, failing(0, lost), train_together=attempt)
    with Store(plan.store_path) as store:
        assert sorted(store.states().values()) == ["done", "done", "done", "interrupted", "interrupted", "interrupted"]


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
