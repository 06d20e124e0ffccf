"""A loss that becomes NaN at step k of one seed: that run is `diverged`, and the table shows 2/3, no silent mean."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastdc.cli.main import run
from fastdc.common.files import prepare_workdir
from fastdc.report import make_rows
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.plan import Cell
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]
STEP = 3


class Poison:
    """Loss of a protocol that is NaN at step `STEP` of one seed."""

    def __init__(self) -> None:
        self.seed, self.steps = 0, 0

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        loss = torch.nn.functional.cross_entropy(logits, labels)
        return loss * float("nan") if self.seed == 1 and self.steps == STEP else loss


def test_nan_at_step_k_of_one_seed(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison = Poison()
    monkeypatch.setattr("fastdc.train.network_training.make_loss", lambda _: poison)
    plan = make_plan(make_config(seeds="0-2", protocols="hard-small*epochs=4"))
    prepare_workdir(plan.config.workdir)

    def execute(runner: CellRunner, cell: Cell) -> CellResult:
        poison.seed, poison.steps = cell.seed, 0
        return run_cell(runner, cell)

    run_cell = CellRunner.run
    monkeypatch.setattr(CellRunner, "run", execute)

    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        outcome = run_plan(plan, store)
        records = store.records()
    assert (outcome.exit_code, outcome.states) == (1, {"done": 2, "diverged": 1})
    (row,) = make_rows(records)
    alone = [record.summary["top1"] for record in records if record.summary]
    assert (row.n, row.seeds, row.status) == (2, 3, "partial")
    assert row.top1_mean == pytest.approx(sum(alone) / 2)
    assert "seed 1 diverged: loss is nan in epoch 3, step 1, at learning rate" in (row.reason or "")
    (failed,) = [record for record in records if record.state == "diverged"]
    assert failed.failure == "diverged"
    capsys.readouterr()
    assert run(["report", str(plan.config.workdir)]) == 0
    table = capsys.readouterr().out
    assert "2/3" in table
    assert "loss is nan" in table
    assert run(["report", str(plan.config.workdir), "--format", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    wanted: dict[str, Any] = {"n": 2, "seeds": 3, "status": "partial"}
    assert {key: shown[key] for key in wanted} == wanted
    # A second try starts from a state before the step, and meets the same NaN: the same row again, not a mean of two.
    with Store(plan.store_path) as store:
        store.register((cell.planned() for cell in plan.cells), "failed")
        again = run_plan(plan, store)
        assert (again.ran, again.states) == (1, {"done": 2, "diverged": 1})
