"""Groups of cells with several sets on scripted workers: what is made, and who is charged for a fault."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from fastdc.common.errors import MethodError
from fastdc.common.files import prepare_workdir
from fastdc.sweep.cell_result import CellFailure, failure_of
from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch import scheduler
from fastdc.sweep.launch.retries import MOST_TRIES
from fastdc.sweep.launch.workers import Event, Lost, Made
from fastdc.sweep.store.lease import Lease
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_progress import Meter
from tests.sweep.fake_workers import SHORT, Call, FakeWorkers, Make, impatient, reasons, sweep

__all__ = ["impatient"]  # a fixture of every test


def test_a_group_has_the_sets_of_all_its_cells_made(make_config: Make) -> None:
    protocols = "hard-small*epochs=2,hard-small*epochs=3"
    plan = make_plan(make_config(methods="random,el2n", seeds="0-3", protocols=protocols))
    workers = FakeWorkers(replace(plan, device="cuda"), size=1)
    assert sweep(workers.plan, workers).states == {"done": 16}
    assert list(map(len, workers.calls("run"))) == [4] * 4
    made = [workers.cells[key].subset for key in workers.calls("make_subset")]
    assert len({subset.key for subset in made if subset is not None}) == len(made) == 5  # el2n's is one for all seeds
    costs = [arguments[1] for _, call, arguments in workers.sent if call == "run"]
    assert sorted(map(len, costs)) == [0, 0, 1, 4]  # what the first protocol made, the second is given


def test_only_the_sets_of_claimed_cells_are_made(make_config: Make) -> None:
    plan = replace(make_plan(make_config(seeds="0-3")), device="cuda")
    workers = FakeWorkers(plan, size=1)
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        assert store.claim(plan.cells[1].key) is not None  # by another sweep
        scheduler.Scheduler(store, workers, Meter({}, 3)).run([plan.cells])
        assert Counter(store.states().values()) == {"done": 3, "running": 1}
    others = [cell.key for cell in plan.cells if cell is not plan.cells[1]]
    assert (workers.calls("make_subset"), workers.calls("run")) == (others, [tuple(others)])


def test_cells_of_a_group_are_charged_only_for_their_own_set(
    make_config: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = replace(make_plan(make_config(seeds="0-3")), device="cuda")
    bad = plan.cells[0]

    def react(_worker: int, call: Call, arguments: tuple[Any, ...]) -> CellFailure | str | None:
        if call == "make_subset" and arguments[0] == bad.key:
            return failure_of(MethodError("cannot"))
        return "killed by signal 9" if call == "run" else None

    workers = FakeWorkers(plan, react, size=1)
    assert sweep(plan, workers).states == {"failed": 4}
    assert reasons(plan) == {
        cell.key: "cannot" if cell is bad else "its worker was lost 3 times: killed by signal 9" for cell in plan.cells
    }
    assert len(workers.calls("run")) == 1 + 3 * (MOST_TRIES - 1)  # at once, and then each alone
    assert "cannot; runs again" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [0, 3])
def test_a_worker_that_ends_for_a_set_counts_no_cell(make_config: Make, number: int) -> None:
    plan = replace(make_plan(make_config(seeds="0-3")), device="cuda")
    bad = plan.cells[number].key
    workers = FakeWorkers(plan, lambda _w, call, sent: SHORT if (call, sent[:1]) == ("make_subset", (bad,)) else None)
    report = workers.events

    def end(worker: int, call: Call, arguments: tuple[Any, ...], value: Any) -> list[Event]:
        if value is not SHORT:
            return report(worker, call, arguments, value)
        workers.waiting.pop(worker)
        return [Made(SHORT, ends=True), Lost("it ran out of memory")]

    workers.events = end  # type: ignore[method-assign]
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        ending = scheduler.Scheduler(store, workers, Meter({}, 4))
        ending.run([plan.cells])
        assert Counter(store.states().values()) == {"done": 3, "failed": 1}
    assert {kind for kind, _ in ending._retries._tries} == {"subset"}
    assert not set(ending._retries._tries) & set(workers.cells)


def test_an_error_between_claims_leaves_no_lease(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(make_plan(make_config(seeds="0-3")), device="cuda")
    claim, claimed = Store.claim, list[str]()

    def stop(store: Store, key: str, redo: bool = False) -> Lease | None:
        if len(claimed) == 2:
            raise KeyboardInterrupt
        claimed.append(key)
        return claim(store, key, redo)

    monkeypatch.setattr(Store, "claim", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(plan, FakeWorkers(plan))
    with Store(plan.store_path, readonly=True) as store:
        assert Counter(store.states().values()) == {"interrupted": 2, "pending": 2}
        assert store.attempts() == {}


def test_a_worker_that_is_lost_in_a_set_counts_no_attempt(make_config: Make) -> None:
    plan = replace(make_plan(make_config(seeds="0-3")), device="cuda")

    def react(_worker: int, call: Call, _arguments: tuple[Any, ...]) -> str | None:
        if call == "make_subset" and len(workers.calls("make_subset")) > 4:
            raise KeyboardInterrupt
        return "killed by signal 9" if call == "make_subset" else None

    workers = FakeWorkers(plan, react, size=1)
    with pytest.raises(KeyboardInterrupt):
        sweep(plan, workers)
    with Store(plan.store_path, readonly=True) as store:
        assert store.attempts() == {}


def test_a_cell_that_ends_the_process_counts_an_attempt(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-3"))

    def react(_worker: int, call: Call, _arguments: tuple[Any, ...]) -> None:
        if call == "run":
            raise SystemExit(3)

    workers = FakeWorkers(plan, react, size=1)
    with pytest.raises(SystemExit):
        sweep(plan, workers)
    with Store(plan.store_path, readonly=True) as store:
        assert store.attempts() == {plan.cells[0].key: 1}


def test_only_the_cells_of_a_group_whose_set_cannot_be_made_fail(make_config: Make) -> None:
    plan = replace(make_plan(make_config(methods="random", seeds="0-3")), device="cuda")
    bad = plan.cells[2]

    def react(_worker: int, call: Call, arguments: tuple[Any, ...]) -> str | None:
        return "killed by signal 9" if call == "make_subset" and bad.key == arguments[0] else None

    workers = FakeWorkers(plan, react, size=1)
    assert sweep(plan, workers).states == {"done": 3, "failed": 1}
    assert reasons(plan) == {bad.key: "its worker was lost 3 times: killed by signal 9"}
