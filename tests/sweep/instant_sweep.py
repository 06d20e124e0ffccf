"""Run plans with an executor that returns at once."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from fastdc.common.errors import DivergedError
from fastdc.common.files import prepare_workdir
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.run_cells import Outcome, run_plan
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


def failing(seed: int, error: Exception) -> Callable[[Cell], CellResult]:
    def execute(cell: Cell) -> CellResult:
        if cell.seed == seed:
            raise error
        return accuracy(cell)

    return execute


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
