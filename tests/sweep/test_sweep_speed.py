"""Wall time that a sweep takes besides its cells."""

import time

import pytest

from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.preview import preview
from tests.sweep.instant_sweep import Make, filled_store, sweep


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
