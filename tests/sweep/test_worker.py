"""The worker of a launcher, in this process: what it must have in common with the sweep, and what it answers."""

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import fastdc
from fastdc.common.errors import MethodError
from fastdc.sweep.cells import Cell, Plan, make_plan
from fastdc.sweep.launch.worker import Answer, CellWorker, Home, News, this_fastdc
from fastdc.sweep.run_cells import CellFailure, CellResult, prepare_workdir
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.track import emit

Make = Callable[..., SweepConfig]


@pytest.fixture
def plan(make_config: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    """Two runs of `random`, their store made; a worker may change the current folder."""
    monkeypatch.chdir(tmp_path)
    plan = make_plan(make_config())
    prepare_workdir(plan.config.workdir)
    Store(plan.store_path).close()
    return plan


def opened(plan: Plan, folder: Path) -> CellWorker:
    worker = CellWorker()
    assert worker.open(plan, Home(this_fastdc(), folder)) is None
    return worker


def test_a_host_with_another_fastdc_is_refused(plan: Plan, tmp_path: Path) -> None:
    problem = CellWorker().open(plan, Home("0.0.1", tmp_path))
    assert problem is not None
    assert f"has fastdc {this_fastdc()}, the sweep 0.0.1; install the same on all" in problem


def test_other_code_of_the_same_version_is_another_fastdc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("__init__.py", "deep/kernel.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1")
    monkeypatch.setattr(fastdc._version, "__file__", str(tmp_path / "__init__.py"))
    before = this_fastdc()
    (tmp_path / "deep" / "kernel.py").write_text("x = 2")
    assert this_fastdc() != before
    (tmp_path / "deep" / "kernel.py").write_text("x = 1")
    assert this_fastdc() == before


def test_a_host_without_the_store_or_with_other_images_is_refused(
    plan: Plan, make_config: Make, tmp_path: Path, write_tiny: Callable[..., Path]
) -> None:
    home = Home(this_fastdc(), tmp_path)
    other = write_tiny(tmp_path / "other.beton", 40, seed=5)
    wrong = Plan(**{**vars(plan), "config": plan.config.model_copy(update={"train": other})})
    problem = CellWorker().open(wrong, home)
    assert problem is not None
    assert f"{other}: other images than the sweep's" in problem
    plan.store_path.unlink()
    problem = CellWorker().open(plan, home)
    assert problem is not None
    assert f"does not see {plan.store_path}; all hosts must share the folder" in problem


def test_relative_paths_count_from_the_sweeps_folder(plan: Plan, tmp_path: Path) -> None:
    relative = plan.config.model_copy(update={"workdir": Path("work")})
    problem = CellWorker().open(Plan(**{**vars(plan), "config": relative}), Home(this_fastdc(), tmp_path / "no"))
    assert problem is not None
    assert f"cannot enter {tmp_path / 'no'}" in problem
    opened(Plan(**{**vars(plan), "config": relative}), tmp_path)
    assert CellWorker().open(plan, Home(this_fastdc(), tmp_path / "no")) is None  # all paths are absolute


def test_an_answer_has_the_result_its_costs_and_what_computed_it(plan: Plan, tmp_path: Path) -> None:
    worker, cell = opened(plan, tmp_path), plan.cells[0]
    assert cell.subset is not None
    made = worker.make_subset(cell.key)
    label, cost = made.costs[cell.subset.key]
    assert (label, cost["wall"] > 0) == ("random ipc 2", True)
    answer = worker.run([cell.key], {cell.subset.key: {**cost, "wall": 77.0}})
    (result,) = answer.results
    assert isinstance(result, CellResult)
    assert (answer.costs, answer.failure, answer.said, answer.ends) == ({}, None, "", None)
    assert result.summary["cost"]["wall"] == 77.0  # as the sweep knows it, and the subset is not made again
    assert result.provenance is not None
    assert result.provenance["seeds"]["training"] == cell.seed
    with Store(plan.store_path, readonly=True) as store:
        assert store.subset_cost(cell.subset.key) is None  # the sweep's process alone writes the store


def test_news_come_while_a_run_goes_on_and_once_more_with_its_answer(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdc.sweep.launch.worker.NEWS_SECONDS", 0.0)
    worker, go_on = opened(plan, tmp_path), threading.Event()

    def train(_runner: object, cell: Cell) -> CellResult:
        for epoch in (1, 2):
            emit("epoch", cell=cell.name, epoch=epoch)
        assert go_on.wait(10)
        emit("epoch", cell=cell.name, epoch=3)
        return CellResult({"top1": 1.0}, {})

    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.run", train)
    first = 0
    for cell in plan.cells:  # numbers go on from one request to the next
        go_on.clear()
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(worker.run, [cell.key], {})
            assert worker.news(first)[0][0] == first
            assert [event["epoch"] for _, event in worker.news(first + 1)] == [2]
            assert not answer.done()
            go_on.set()
            told = answer.result().events
        assert [(number, event["epoch"]) for number, event in told] == [(first, 1), (first + 1, 2), (first + 2, 3)]
        first += 3


def test_who_asks_for_news_waits_for_some_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    news = News()
    assert news.since(0, 0.01) == ()
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(news.since, 0, 60.0)
        news.tell({"event": "epoch"})
        assert asked.result(5) == ((0, {"event": "epoch"}),)
    assert (len(news.take()), news.take(), news.since(0)) == (1, (), ())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MethodError("class 'moss' has 2 images"), ("failed", "class 'moss' has 2 images", "method", False)),
        (MemoryError("no"), ("failed", "out of memory", "infrastructure", True)),
    ],
)
def test_a_failure_comes_back_in_words(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: tuple[Any, ...]
) -> None:
    (result,) = failing(plan, tmp_path, monkeypatch, error).results
    assert isinstance(result, CellFailure)
    outcome, reason, failure, traced = expected
    assert (result.outcome, result.failure, result.trace is not None) == (outcome, failure, traced)
    assert result.reason.startswith(reason)


def test_a_full_disk_comes_back_as_what_ends_the_sweep(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    answer = failing(plan, tmp_path, monkeypatch, error)
    assert (answer.ends, answer.results) == (error, ())


def failing(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Answer:
    """What a worker answers whose first run raises `error`."""
    worker = opened(plan, folder)

    def fail(_runner: object, _cell: object) -> None:
        raise error

    monkeypatch.setattr("fastdc.sweep.cell_runner.CellRunner.run", fail)
    return worker.run([plan.cells[0].key], {})
