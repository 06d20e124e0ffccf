"""Cells that are trained together: how each ends."""

from collections.abc import Callable, Sequence

import pytest

from fastdc.common.errors import DivergedError
from fastdc.sweep.cell_groups import split_groups
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cells import make_plan
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.store.results import Store
from tests.sweep.instant_sweep import Make, accuracy, failing, sweep

ARCHS = ("convnet1_w4", "convnet1_w6", "convnet1_w8")


@pytest.fixture
def grouped(make_config: Make) -> Callable[..., Plan]:
    """Plan cells that are trained in groups with different networks."""
    return lambda seeds="0", archs=ARCHS: make_plan(make_config(seeds=seeds, archs=archs, together="always"))


def test_cells_that_are_trained_together_end_separately(grouped: Callable[..., Plan], isolated: list[str]) -> None:
    attempted: list[int] = []

    def attempt(cells: Sequence[Cell]) -> list[CellResult | DivergedError]:
        attempted.append(len(cells))
        return [DivergedError("loss is nan") if cell.arch == ARCHS[1] else accuracy(cell) for cell in cells]

    plan = grouped("0-1")
    with Store(plan.store_path) as store:  # one of them lost its worker before, and trains alone
        store.register(cell.planned() for cell in plan.cells)
        for give_back in (lambda lease: store.expire(lease.key, lease.token), store.release):
            lease = store.claim(plan.cells[0].key)
            assert lease is not None
            give_back(lease)
    outcome, ran = sweep(plan, train_together=attempt)
    assert outcome.states == {"done": 4, "diverged": 2}
    assert (outcome.ran, sorted(attempted), ran, isolated) == (6, [2, 3], [], [plan.cells[0].key])


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


def test_cells_that_were_interrupted_together_train_together_again(grouped: Callable[..., Plan]) -> None:
    attempted: list[int] = []

    def attempt(cells: Sequence[Cell]) -> list[CellResult | DivergedError]:
        attempted.append(len(cells))
        if len(attempted) < 4:
            raise KeyboardInterrupt
        return list(map(accuracy, cells))

    plan = grouped()
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            sweep(plan, train_together=attempt)
    outcome, ran = sweep(plan, train_together=attempt)
    assert (outcome.states, attempted, ran) == ({"done": 3}, [3] * 4, [])


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
