"""Cells after a lost GPU or too little memory: processes of their own, and memory that is released."""

from pathlib import Path

import pytest
import torch

from fastdc.common.errors import MethodError
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch.cell_worker import release_memory
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.results import Store
from tests.sweep.instant_sweep import Make, failing, sweep


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
        (None, 1),
    ],
    ids=repr,
)
def test_a_set_that_the_machine_failed_is_tried_again_and_one_that_the_method_failed_is_not(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cause: Exception | None, calls: int
) -> None:
    made: list[object] = []

    def fail(*_: object, **__: object) -> None:
        made.append(_)
        raise ValueError("they do not fit") if cause is None else MethodError("the images do not fit") from cause

    monkeypatch.setattr("fastdc.subsets.compress.make_subset", fail)
    plan = make_plan(make_config())
    subset = plan.cells[0].subset
    assert subset is not None
    with Store(tmp_path / "store.sqlite") as store:
        runner = CellRunner(plan, store)
        for _ in range(2):
            with pytest.raises((MethodError, ValueError), match="do not fit"):
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
