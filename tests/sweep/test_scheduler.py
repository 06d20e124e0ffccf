"""Distribution of cells over workers, with scripted instant workers."""

import errno
import os
from typing import Any

import pytest

from fastdc.common.errors import MethodError, OutputError, WorkerError
from fastdc.common.files import prepare_workdir
from fastdc.sweep.cell_result import CellFailure, failure_of
from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch import scheduler, worker_starts
from fastdc.sweep.launch.retries import MOST_TRIES
from fastdc.sweep.launch.workers import Event, Lost, Tracked
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_progress import Meter
from fastdc.track import listening
from tests.sweep.fake_workers import SHORT, Call, FakeWorkers, Make, impatient, reasons, sweep
from tests.sweep.instant_sweep import accuracy

__all__ = ["impatient"]  # a fixture of every test


def test_every_cell_runs_once_on_all_workers(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-9"))
    workers = FakeWorkers(plan, size=3)
    outcome = sweep(plan, workers)
    assert (outcome.states, outcome.ran) == ({"done": 10}, 10)
    assert (workers.started, workers.most_at_work) == (3, 3)
    assert sorted(key for keys in workers.calls("run") for key in keys) == sorted(cell.key for cell in plan.cells)
    with Store(plan.store_path, readonly=True) as store:
        made_by = [store.provenance(cell.key) for cell in plan.cells]
    assert all(found in [{"host": f"node{worker}"} for worker in (1, 2, 3)] for found in made_by)


def test_no_more_workers_are_started_than_there_are_cells(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-1"))
    workers = FakeWorkers(plan, size=50)
    assert sweep(plan, workers).states == {"done": 2}
    assert workers.started == 2


def test_shared_parts_are_made_once_while_other_cells_run(make_config: Make) -> None:
    plan = make_plan(make_config(methods="random,el2n,pca,full", seeds="0-3", ipc="2"))
    workers = FakeWorkers(plan, size=4)
    at_work: dict[int, str] = {}

    def watch(worker: int, call: Call, arguments: tuple[Any, ...]) -> None:
        if call == "make_network":
            assert not any(sent == "make_network" for other, sent in at_work.items() if other != worker)
        at_work[worker] = call

    workers.react = watch
    assert sweep(plan, workers).states == {"done": 16}
    assert workers.calls("make_network") == ["observer"]
    made = [workers.cells[key].subset for key in workers.calls("make_subset")]
    assert len(made) == len({subset.key for subset in made if subset is not None}) == 6  # random has one for each seed
    first = [call for _, call, _ in workers.sent].index("make_network")
    begun = {worker for worker, _, _ in workers.sent}
    assert (first >= 0, len(begun)) == (True, 4)  # while one trains the observer the others are busy


def test_costs_are_stored_by_the_driver_and_sent_with_later_cells(make_config: Make) -> None:
    plan = make_plan(make_config(methods="el2n", seeds="0-1"))
    workers = FakeWorkers(plan)
    sweep(plan, workers)
    (subset,) = {cell.subset.key for cell in plan.cells if cell.subset is not None}
    with Store(plan.store_path, readonly=True) as store:
        assert store.subset_cost(subset) == {"wall": 1.0}
    later = [arguments[1] for _, call, arguments in workers.sent if call == "run"][1]
    assert later == {subset: {"wall": 1.0}}


def test_a_lost_worker_costs_only_its_cells_and_they_run_again(
    make_config: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(make_config(seeds="0-5"))
    lost: list[str] = []

    def lose_once(_worker: int, call: Call, arguments: tuple[Any, ...]) -> str | None:
        if call == "run" and not lost:
            lost.extend(arguments[0])
            return "its host is gone"
        return None

    workers = FakeWorkers(plan, lose_once)
    outcome = sweep(plan, workers)
    assert (outcome.states, outcome.ran, workers.started) == ({"done": 6}, 6, 3)
    assert len(workers.calls("run")) == 7
    name = next(cell.name for cell in plan.cells if cell.key == lost[0])
    assert f"{name}: its worker was lost (its host is gone); runs again\n" in capsys.readouterr().err


def test_a_cell_that_always_ends_its_worker_fails(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-3"))
    bad = plan.cells[1].key

    def react(_worker: int, call: Call, arguments: tuple[Any, ...]) -> str | None:
        return "signal 11" if call == "run" and bad in arguments[0] else None

    workers = FakeWorkers(plan, react)
    outcome = sweep(plan, workers)
    assert (outcome.states, outcome.exit_code) == ({"done": 3, "failed": 1}, 1)
    assert reasons(plan) == {bad: "its worker was lost 3 times: signal 11"}
    with Store(plan.store_path, readonly=True) as store:
        assert [record.failure for record in store.records() if record.key == bad] == ["infrastructure"]
    assert sum(bad in keys for keys in workers.calls("run")) == MOST_TRIES


def test_a_prerequisite_after_one_that_ended_its_worker_is_not_charged_for_it(make_config: Make) -> None:
    plan = make_plan(make_config(methods="el2n", seeds="0"))
    short = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    workers = FakeWorkers(plan, lambda _w, call, _a: failure_of(short) if call == "make_network" else None, size=1)
    report = workers.events

    def end(worker: int, call: Call, arguments: tuple[Any, ...], value: Any) -> list[Event]:
        events = report(worker, call, arguments, value)
        return [*events, Lost("it ran out of memory")] if call == "make_network" else events

    workers.events = end  # type: ignore[method-assign]
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        ending = scheduler.Scheduler(store, workers, Meter({}, 1))
        ending.run([plan.cells])
    assert ending.ran == 1
    assert [kind for kind, _ in ending._retries.given_up] == ["network"]
    assert {kind for kind, _ in ending._retries._tries} == {"network"}


@pytest.mark.parametrize("call", ["make_network", "make_subset"])
def test_a_part_that_ends_every_worker_fails_all_cells_that_need_it(make_config: Make, call: Call) -> None:
    plan = make_plan(make_config(methods="random,el2n", seeds="0-5"))

    def react(_worker: int, sent: Call, arguments: tuple[Any, ...]) -> str | None:
        of_el2n = sent != "make_subset" or workers.cells[arguments[0]].label["method"] == "el2n"
        return "killed by signal 9" if sent == call and of_el2n else None

    workers = FakeWorkers(plan, react)
    assert sweep(plan, workers).states == {"done": 6, "failed": 6}
    assert set(reasons(plan).values()) == {"its worker was lost 3 times: killed by signal 9"}
    assert workers.started <= 2 + MOST_TRIES


def test_a_fault_of_the_machine_is_tried_again_on_another_worker(
    make_config: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(make_config(seeds="0-5"))
    once, always = plan.cells[0], plan.cells[3]
    fault = failure_of(OSError(errno.EIO, "Input/output error", "train.beton"))
    where: dict[str, list[int]] = {}

    def react(worker: int, call: Call, arguments: tuple[Any, ...]) -> CellFailure | Exception | None:
        if call != "run":
            return None
        (key,) = arguments[0]
        where.setdefault(key, []).append(worker)
        return fault if key == always.key or (key == once.key and len(where[key]) == 1) else None

    workers = FakeWorkers(plan, react)
    assert sweep(plan, workers).states == {"done": 5, "failed": 1}
    assert reasons(plan) == {always.key: "train.beton: Input/output error; check path and permissions"}
    assert (len(where[once.key]), len(where[always.key])) == (2, MOST_TRIES)
    assert len(set(where[always.key])) == MOST_TRIES
    assert f"{once.name}: train.beton: Input/output error; check path and permissions; runs again" in (
        capsys.readouterr().err
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("large", [{0}, {3}, {0, 3}, {0, 1, 2, 3}], ids=repr)
def test_a_run_without_memory_is_tried_once_more_as_the_first_of_a_new_process(
    make_config: Make, capsys: pytest.CaptureFixture[str], size: int, large: set[int]
) -> None:
    plan = make_plan(make_config(seeds="0-3"))
    keys = {cell.key for cell in plan.cells if cell.seed in large}
    ran: dict[int, list[str]] = {}  # keys by worker

    def react(worker: int, call: Call, arguments: tuple[Any, ...]) -> CellFailure | None:
        if call != "run":
            return None
        (key,) = arguments[0]
        ran.setdefault(worker, []).append(key)
        return SHORT if key in keys else None

    assert sweep(plan, FakeWorkers(plan, react, size)).states["failed"] == len(keys)
    for key in keys:
        places = [done.index(key) for done in ran.values() if key in done]
        assert (len(places), places[-1]) == (2, 0)
    assert reasons(plan) == dict.fromkeys(keys, SHORT.reason)
    name = next(cell.name for cell in plan.cells if cell.key in keys)
    assert f"{name}: {SHORT.reason}; runs again in a new process\n" in capsys.readouterr().err


@pytest.mark.timeout(20)
def test_a_run_without_memory_whose_new_process_cannot_start_gets_a_later_one(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-5"))
    large = plan.cells[1].key

    def react(worker: int, call: Call, arguments: tuple[Any, ...]) -> CellFailure | str | None:
        if call == "open":
            return "no CUDA" if worker == 3 else None
        return SHORT if call == "run" and large in arguments[0] else None

    workers = FakeWorkers(plan, react)
    assert sweep(plan, workers).states == {"done": 5, "failed": 1}
    tried = [worker for worker, call, arguments in workers.sent if call == "run" and large in arguments[0]]
    assert len(tried) == 2
    assert tried[-1] > 3


@pytest.mark.timeout(20)
@pytest.mark.parametrize("call", ["make_network", "make_subset"])
@pytest.mark.parametrize("size", [1, 3])
def test_a_part_without_memory_is_tried_once_more_as_the_first_of_a_new_process(
    make_config: Make, capsys: pytest.CaptureFixture[str], call: Call, size: int
) -> None:
    plan = make_plan(make_config(methods="random,el2n", seeds="0-2"))
    tried: list[int] = []

    def react(worker: int, sent: Call, arguments: tuple[Any, ...]) -> CellFailure | None:
        of_el2n = sent != "make_subset" or workers.cells[arguments[0]].label["method"] == "el2n"
        if sent != call or not of_el2n:
            return None
        tried.append(worker)
        return SHORT

    workers = FakeWorkers(plan, react, size)
    report = workers.events

    def end(worker: int, sent: Call, arguments: tuple[Any, ...], value: Any) -> list[Event]:
        events = report(worker, sent, arguments, value)
        if value is SHORT:
            workers.waiting.pop(worker)
            events.append(Lost("it ran out of memory"))
        return events

    workers.events = end  # type: ignore[method-assign]
    assert sweep(plan, workers).states == {"done": 3, "failed": 3}
    assert set(reasons(plan).values()) == {SHORT.reason}
    assert len(set(tried)) == len(tried) == 2
    assert next(step for worker, step, _ in workers.sent if worker == tried[-1]) == call
    assert f": {SHORT.reason}; runs again in a new process\n" in capsys.readouterr().err


def test_memory_that_was_short_for_a_moment_fails_no_run(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-3"))
    once = [SHORT]
    workers = FakeWorkers(plan, lambda _w, call, _a: once.pop() if call == "run" and once else None)
    assert sweep(plan, workers).states == {"done": 4}


def test_a_fault_of_the_machine_in_a_shared_part_fails_no_other_cell(make_config: Make) -> None:
    plan = make_plan(make_config(methods="el2n", seeds="0-3"))
    fault = failure_of(OSError(errno.EIO, "Input/output error", "train.beton"))
    failures = [fault]

    def react(_worker: int, call: Call, _arguments: tuple[Any, ...]) -> CellFailure | Exception | None:
        return failures.pop() if call == "make_network" and failures else None

    assert sweep(plan, FakeWorkers(plan, react)).states == {"done": 4}


def test_events_are_published_at_once_also_of_a_lost_worker(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0"))
    name = plan.cells[0].name
    published: list[tuple[str, int | None]] = []

    class Telling(FakeWorkers):
        """Report an epoch of each run, and then lose the first worker."""

        def wait(self, seconds: float) -> list[tuple[int, Event]]:
            found = super().wait(seconds)
            events: list[tuple[int, Event]] = (
                [(found[0][0], Tracked(epoch_event(name, 1)))] if self.calls("run") else []
            )
            return events + found

    workers = Telling(plan, lambda worker, call, _: "killed" if call == "run" and worker == 1 else None)
    with listening(lambda event: published.append((event["event"], event.get("epoch")))):
        assert sweep(plan, workers).states == {"done": 1}
    kinds = [kind for kind, _ in published if kind in ("cell_started", "epoch", "cell_done")]
    once = list(dict.fromkeys(kinds[: kinds.index("cell_started", 1)]))
    assert once == ["cell_started", "epoch"]
    assert kinds[-2:] == ["epoch", "cell_done"]


def epoch_event(cell: str, epoch: int) -> dict[str, Any]:
    """Return the event of an epoch."""
    numbers = {"epoch": epoch, "epochs": 9, "loss": 1.5, "lr": 0.1, "top1": None, "images_per_second": 70.0}
    return {"time": 0.0, "event": "epoch", "cell": cell, **numbers}


def test_cells_of_a_lost_worker_continue_one_by_one(make_config: Make) -> None:
    archs = "convnet1_w4,convnet1_w6,convnet1_w8"
    plan = make_plan(make_config(methods="full", seeds="0", archs=archs, together="always"))

    def react(_worker: int, call: Call, arguments: tuple[Any, ...]) -> str | None:
        return "killed" if call == "run" and len(arguments[0]) > 1 else None

    workers = FakeWorkers(plan, react)
    assert sweep(plan, workers).states == {"done": 3}
    assert sorted(map(len, workers.calls("run"))) == [1, 1, 1, 3]


def test_a_failure_is_a_row_and_is_not_tried_again(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-3"))
    bad = plan.cells[0].key
    answers = {
        bad: CellFailure("diverged", "loss is nan", "diverged"),
        plan.cells[1].key: failure_of(TypeError("no tensor")),
    }

    def react(_worker: int, call: Call, arguments: tuple[Any, ...]) -> CellFailure | Exception | None:
        return answers.get(arguments[0][0]) if call == "run" else None

    workers = FakeWorkers(plan, react)
    outcome = sweep(plan, workers)
    assert outcome.states == {"done": 2, "diverged": 1, "failed": 1}
    assert set(reasons(plan).values()) == {"loss is nan", "unexpected TypeError: no tensor"}
    assert len(workers.calls("run")) == 4
    assert len(workers.dropped) == 1  # after the unexpected error the next run gets a clean process


@pytest.mark.parametrize("call", ["make_network", "make_subset"])
def test_a_part_that_cannot_be_made_fails_all_cells_that_need_it_once(make_config: Make, call: Call) -> None:
    plan = make_plan(make_config(methods="random,el2n", seeds="0-2"))
    reason = failure_of(MethodError("class 'moss' has 2 images"))

    def react(_worker: int, sent: Call, arguments: tuple[Any, ...]) -> CellFailure | Exception | None:
        cell = workers.cells[arguments[0] if sent == "make_subset" else arguments[0][0]] if sent in RUNS else None
        if sent == call == "make_network":
            return reason
        if cell is not None and cell.label["method"] == "el2n":
            return reason
        return None

    workers = FakeWorkers(plan, react)
    assert sweep(plan, workers).states == {"done": 3, "failed": 3}
    assert len(workers.calls(call)) == (1 if call == "make_network" else 4)  # random has one for each seed
    assert set(reasons(plan).values()) == {"class 'moss' has 2 images"}


RUNS = ("make_subset", "run")


@pytest.mark.parametrize("error", [OutputError("disk full"), OSError(errno.ENOSPC, "No space left")])
def test_a_full_disk_ends_the_sweep_and_releases_the_other_cells(make_config: Make, error: Exception) -> None:
    plan = make_plan(make_config(seeds="0-5"))

    def react(_worker: int, call: Call, _arguments: tuple[Any, ...]) -> CellFailure | Exception | None:
        return error if call == "run" and len(workers.calls("run")) > 2 else None

    workers = FakeWorkers(plan, react)
    with pytest.raises(type(error)):
        sweep(plan, workers)
    with Store(plan.store_path, readonly=True) as store:
        assert "running" not in store.states().values()
        assert "interrupted" in store.states().values()
    assert sweep(plan, FakeWorkers(plan)).states == {"done": 6}


def test_workers_that_cannot_start_end_the_sweep_before_any_cell_runs(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-5"))
    workers = FakeWorkers(plan, lambda _worker, call, _: "host b does not see it" if call == "open" else None)
    with pytest.raises(WorkerError, match=r"[34] workers could not be started: host b does not see it"):
        sweep(plan, workers)
    with Store(plan.store_path, readonly=True) as store:
        assert set(store.states().values()) == {"pending"}


def test_one_bad_host_is_given_up(make_config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(make_config(seeds="0-9"))
    workers = FakeWorkers(plan, lambda worker, call, _: "no CUDA" if call == "open" and worker != 1 else None, size=2)
    assert sweep(plan, workers).states == {"done": 10}
    assert workers.started <= 3
    assert "a worker could not be started: no CUDA" in capsys.readouterr().err


def test_bad_hosts_do_not_end_a_sweep_with_a_slower_good_one(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-9"))
    workers = FakeWorkers(plan, lambda worker, call, _: "no CUDA" if call == "open" and worker < 6 else None, size=6)
    assert sweep(plan, workers).states == {"done": 10}
    assert workers.started <= 8


@pytest.mark.timeout(20)
def test_the_only_worker_beside_a_bad_host_is_replaced_when_lost(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-3"))

    def react(worker: int, call: Call, _arguments: tuple[Any, ...]) -> str | None:
        bad_host = 1 < worker <= 4
        return "no CUDA" if call == "open" and bad_host else "killed" if call == "run" and worker == 1 else None

    workers = FakeWorkers(plan, react, size=4)
    assert sweep(plan, workers).states == {"done": 4}
    assert workers.started > 4


def test_a_place_without_a_worker_is_tried_again_later(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(make_config(seeds="0-9"))
    monkeypatch.setattr(worker_starts, "FORGET_SECONDS", 0.0)
    workers = FakeWorkers(plan, lambda worker, call, _: "rebooting" if call == "open" and worker == 2 else None, size=2)
    assert sweep(plan, workers).states == {"done": 10}
    assert (workers.started, workers.most_at_work) == (3, 2)


def test_an_interrupt_releases_running_cells(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-5"))

    def react(_worker: int, call: Call, _arguments: tuple[Any, ...]) -> CellFailure | Exception | None:
        if call == "run" and len(workers.calls("run")) > 3:
            raise KeyboardInterrupt
        return None

    workers = FakeWorkers(plan, react)
    with pytest.raises(KeyboardInterrupt):
        sweep(plan, workers)
    with Store(plan.store_path, readonly=True) as store:
        states = sorted(store.states().values())
    assert states.count("interrupted") == 2
    assert "running" not in states


def test_a_lost_worker_counts_as_an_attempt_and_an_interrupt_does_not(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-3"))

    def react(_worker: int, call: Call, _arguments: tuple[Any, ...]) -> str | None:
        if call == "run" and len(workers.calls("run")) == 2:
            raise KeyboardInterrupt
        return "killed" if call == "run" else None

    workers = FakeWorkers(plan, react, size=1)
    with pytest.raises(KeyboardInterrupt):
        sweep(plan, workers)
    (first,), (second,) = workers.calls("run")
    with Store(plan.store_path, readonly=True) as store:
        assert store.attempts() == {first: 1}
        assert (store.states()[first], store.states()[second]) == ("interrupted", "interrupted")


def test_cells_of_another_sweep_are_left_to_it(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-3"))
    held = plan.cells[2].key
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as other:
        other.register(cell.planned() for cell in plan.cells)
        lease = other.claim(held)
        assert lease is not None

        def react(_worker: int, call: Call, _arguments: tuple[Any, ...]) -> None:
            if call == "run" and len(workers.calls("run")) == 3:
                other.finish(lease, "done", summary=accuracy(plan.cells[2]).summary)

        workers = FakeWorkers(plan, react)
        outcome = sweep(plan, workers)
    assert (outcome.states, outcome.ran) == ({"done": 4}, 3)
    assert held not in [key for keys in workers.calls("run") for key in keys]


def test_threads_and_handles_do_not_grow(make_config: Make) -> None:
    import threading

    plan = make_plan(make_config(seeds="0-199"))
    losses = iter(range(10**6))
    workers = FakeWorkers(
        plan, lambda _w, call, _a: "lost" if call == "run" and next(losses) % 9 == 4 else None, size=6
    )
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    assert sweep(plan, workers).states == {"done": 200}
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
