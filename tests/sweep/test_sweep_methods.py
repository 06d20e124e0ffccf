"""Every method of the registry through real sweeps: one observer, one subset each; hard labels, and soft ones."""

from collections.abc import Callable

import pytest

from fastdc.common.files import prepare_workdir
from fastdc.methods import all_methods, get_method
from fastdc.report import make_rows
from fastdc.report.rows import shared_observer
from fastdc.sweep.cells import make_plan
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

DISTILLATION = [name for name, method in all_methods().items() if method.info.family == "distillation"]
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
        outcome = run_plan(plan, store)
        rows = make_rows(store.records())
    assert outcome.states == {"done": len(PRUNING)}
    assert len(PRUNING) >= 24
    assert len(list((plan.config.workdir / "observers").iterdir())) == 1
    lists = {path.name.partition("-ipc")[0]: path for path in (plan.config.workdir / "subsets").glob("*.list.tsv")}
    assert sorted(lists) == sorted(PRUNING)
    images, unobserved = 2 * len(plan.train.classes), ("random", "pact")
    for row in rows:
        entries = [line for line in lists[row.method].read_text().splitlines() if not line.startswith("#")]
        assert len(entries) == images * (4 if row.method in ("pca", "pact") else 1), row.method
        assert (row.observer_seconds or 0) > 0 or row.method in unobserved
    ledger = shared_observer(rows)
    assert ledger is not None
    assert (ledger.methods, ledger.alone > 10 * ledger.seconds) == (len(PRUNING) - len(unobserved), True)


@pytest.mark.timeout(240)
def test_one_teacher_serves_every_distillation_method_and_the_soft_labels(
    make_config: Callable[..., SweepConfig],
) -> None:
    recovering = [name for name in DISTILLATION if "preset" in type(get_method(name).configure({})).model_fields]
    config = make_config(
        methods=",".join(["random", "noise", *DISTILLATION]),
        seeds="0",
        protocols="hard-small*epochs=1,soft-small*epochs=1",
        observer={"arch": "convnet1_w4", "epochs": 10},
        set={name: {"iterations": 2} for name in recovering},
    )
    plan = make_plan(config)
    prepare_workdir(config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        outcome = run_plan(plan, store)
        rows = make_rows(store.records())
    assert outcome.states == {"done": 2 * (len(DISTILLATION) + 2)}
    assert len(DISTILLATION) >= 10
    assert len(list((config.workdir / "observers").iterdir())) == 1
    assert list((config.workdir / "making").iterdir()) == []  # checkpoints of killed runs
    images, classes = 2 * len(plan.train.classes), len(plan.train.classes)
    for row in rows:
        soft = row.protocol.startswith("soft")
        assert row.labels == ("online" if soft else "hard")
        assert row.label_bytes == (images * classes * 2 if soft else images)
        assert bool(row.teacher) == soft
        name = row.method.partition("[")[0]
        assert ("2 instead of" in " ".join(row.reduced)) == (name in recovering), (row.method, row.reduced)
        assert ((row.networks_seconds or 0) > 0) == (name in DISTILLATION), row.method
