"""Every pruning method of the registry through a real sweep: one observer, one subset and one list each."""

from collections.abc import Callable

import pytest

from fastdc.methods import all_methods
from fastdc.report import make_rows
from fastdc.report.rows import shared_observer
from fastdc.sweep.cell import CellRunner
from fastdc.sweep.config import SweepConfig
from fastdc.sweep.plan import make_plan
from fastdc.sweep.run import prepare_workdir, run_plan
from fastdc.sweep.store import Store

PRUNING = [name for name, method in all_methods().items() if method.info.family in ("pruning", "combination")]


@pytest.mark.timeout(240)
def test_one_observer_serves_every_pruning_method(make_config: Callable[..., SweepConfig]) -> None:
    observer = {"arch": "convnet1_w4", "epochs": 30}
    plan = make_plan(
        make_config(methods=",".join(PRUNING), seeds="0", protocols="hard-small*epochs=1", observer=observer)
    )
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        outcome = run_plan(plan, store, CellRunner(plan, store).run)
        rows = make_rows(store.records())
    assert outcome.states == {"done": len(PRUNING)}
    assert len(PRUNING) >= 24
    assert len(list((plan.config.workdir / "observers").iterdir())) == 1
    lists = {path.name.partition("-ipc")[0]: path for path in (plan.config.workdir / "subsets").glob("*.list.tsv")}
    assert sorted(lists) == sorted(PRUNING)
    images = 2 * len(plan.train.classes)
    for row in rows:
        entries = [line for line in lists[row.method].read_text().splitlines() if not line.startswith("#")]
        assert len(entries) == images * (4 if row.method == "pca" else 1), row.method
        assert (row.observer_seconds or 0) > 0 or row.method == "random"
    ledger = shared_observer(rows)
    assert ledger is not None
    assert (ledger.methods, ledger.alone > 10 * ledger.seconds) == (len(PRUNING) - 1, True)
