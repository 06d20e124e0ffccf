"""A change reruns exactly what depends on it: the graph observer -> scores -> subset -> cell, by content."""

from collections.abc import Callable
from typing import Any

import pytest

from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.plan import Plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from tests.sweep.instant_sweep import accuracy, sweep

Make = Callable[..., SweepConfig]
GRID: dict[str, Any] = {
    "methods": "full,random,el2n,pca",
    "ipc": "2,3",
    "protocols": ["hard-small*epochs=2", "soft-small*epochs=2"],
    "archs": "convnet1_w4,convnet1_w6",
    "observer": {"arch": "convnet1_w4", "epochs": 12},
}
ALL = {"full", "random", "el2n", "pca"}


def ran(plan: Plan) -> set[tuple[str, str]]:
    """Run a sweep; return the cells that ran, by method and protocol."""
    cells = {cell.key: cell for cell in plan.cells}
    _, keys = sweep(plan, accuracy)
    return {(cells[key].label["method"].partition("[")[0], cells[key].protocol.name[:4]) for key in keys}


def both(*methods: str) -> set[tuple[str, str]]:
    return {(method, kind) for method in methods for kind in ("hard", "soft")}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, set()),
        ({"set": {"pca.grid": 3}}, both("pca")),
        ({"set": {"el2n.last_epoch": 5}}, both("el2n")),
        ({"set": {"random.fit": "pad"}}, both("random")),
        ({"set": {"full.protocol.epochs": 3}}, both("full")),
        # The observer's schedule affects its readers, and every soft label from it.
        (
            {"observer": {"arch": "convnet1_w4", "epochs": 13}},
            {*both("el2n", "pca"), ("full", "soft"), ("random", "soft")},
        ),
        ({"teacher": "observer:convnet1_w8"}, {(method, "soft") for method in ALL}),
        ({"threads": 2}, both(*ALL)),
        ({"compile": True}, both(*ALL)),
        ({"loader": "resident", "together": "never"}, set()),
        ({"methods": "pca,full"}, set()),
        ({"ipc": "3"}, set()),
    ],
    ids=str,
)
def test_a_change_reruns_exactly_what_depends_on_it(
    make_config: Make, change: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    assert ran(make_plan(make_config(**GRID))) == both(*ALL)
    changed = make_plan(make_config(**{**GRID, **change}))
    shown = [line for line in preview(changed.config) if line.startswith(("missing ", "cached "))]
    assert ran(changed) == expected
    if not expected:
        assert all(line.startswith("cached ") for line in shown)
    assert ran(make_plan(make_config(**GRID))) == set()  # the earlier results are still there


def test_a_subset_is_planned_once_for_all_its_trainings(make_config: Make) -> None:
    plan = make_plan(make_config(**GRID))
    subsets = {cell.subset.key: cell.subset for cell in plan.cells if cell.subset and cell.subset.ipc}
    # el2n and pca: one per ipc; random: one per ipc and seed. Protocols and networks add none.
    assert len(subsets) == 2 + 2 + 4
    assert len({id(cell.subset.variant) for cell in plan.cells if cell.subset}) == 4
    with pytest.raises(FileNotFoundError):
        plan.store_path.stat()
    sweep(plan)
    with Store(plan.store_path, readonly=True) as store:
        assert len(store.states()) == len(plan.cells)
