"""Scripted instant workers, with which tests of the scheduler run a sweep."""

from collections.abc import Callable
from typing import Any, Literal

import pytest

from fastdc.common.files import prepare_workdir
from fastdc.sweep.cell_result import CellFailure, failure_of
from fastdc.sweep.launch.workers import Ended, Event, Finished, Lost, Made, Request, Started, SubsetMade
from fastdc.sweep.plan import Plan
from fastdc.sweep.run_cells import Outcome, run_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from tests.sweep.instant_sweep import accuracy

Make = Callable[..., SweepConfig]
Call = Literal["open", "make_network", "make_subset", "run"]
"""A step of a worker: its start, or one part of a request."""
React = Callable[[int, Call, tuple[Any, ...]], "CellFailure | Exception | str | None"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdc.sweep.run_cells.POLL_SECONDS", 0.001)


class FakeWorkers:
    """Workers that take one step each time something is waited for, in turn.

    Args:
        react: how a step fails: a text loses the worker (at its start: is the problem), a failure is that of the cell
            or of what is made, an exception ends the sweep.
        size: how many workers there may be.
    """

    separate = True

    def __init__(self, plan: Plan, react: React | None = None, size: int = 2) -> None:
        self.plan, self.cells = plan, {cell.key: cell for cell in plan.cells}
        self.react, self.size = react, size
        self.sent: list[tuple[int, Call, tuple[Any, ...]]] = []
        self.waiting: dict[int, list[tuple[Call, tuple[Any, ...]]]] = {}
        self.dropped: list[int] = []
        self.served: dict[int, int] = {}
        self.started = self.most_at_work = 0

    def capacity(self) -> int:
        return self.size

    def cell_of(self, subset: str) -> str:
        """Return the key of the first cell that trains on a subset."""
        return next(key for key, cell in self.cells.items() if cell.subset is not None and cell.subset.key == subset)

    def start(self) -> int:
        self.started += 1
        self.waiting[self.started] = [("open", ())]
        return self.started

    def send(self, worker: int, request: Request) -> None:
        steps: list[tuple[Call, tuple[Any, ...]]] = [
            ("make_network", (key,)) if kind == "network" else ("make_subset", (self.cell_of(key),))
            for kind, key in request.making
        ]
        steps.append(("run", (request.cells, request.costs)))
        self.sent += [(worker, *step) for step in steps]
        self.waiting[worker] += steps

    def wait(self, _seconds: float) -> list[tuple[int, Event]]:
        busy = [worker for worker, calls in self.waiting.items() if calls]
        self.most_at_work = max(self.most_at_work, len(busy))
        if not busy:
            return []
        worker = min(busy, key=lambda one: self.served.get(one, 0))
        self.served[worker] = max(self.served.values(), default=0) + 1
        call, arguments = self.waiting[worker].pop(0)
        value = self.react(worker, call, arguments) if self.react is not None else None
        return [(worker, event) for event in self.events(worker, call, arguments, value)]

    def events(self, worker: int, call: Call, arguments: tuple[Any, ...], value: Any) -> list[Event]:
        """Return the events of a worker for a step that ends like this."""
        if call == "open":
            return [Started(value)]
        if isinstance(value, str):
            self.waiting.pop(worker)
            return [Lost(value)]
        if isinstance(value, Exception):
            return [Finished(value)]
        if call == "run":
            made_by = {"host": f"node{worker}"}
            results = [value or accuracy(self.cells[key])._replace(provenance=made_by) for key in arguments[0]]
            return [*map(Ended, arguments[0], results), Finished()]
        if call == "make_subset" and value is None:
            subset = self.cells[arguments[0]].subset
            assert subset is not None
            return [SubsetMade(subset.key, "a subset", {"wall": 1.0}), Made(None)]
        return [Made(value)]

    def drop(self, worker: int) -> None:
        self.dropped.append(worker)
        self.waiting.pop(worker, None)

    def calls(self, call: Call) -> list[Any]:
        return [arguments[0] for _, name, arguments in self.sent if name == call]


def sweep(plan: Plan, workers: FakeWorkers) -> Outcome:
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        return run_plan(plan, store, workers)


def reasons(plan: Plan) -> dict[str, str | None]:
    with Store(plan.store_path, readonly=True) as store:
        return {record.key: record.reason for record in store.records() if record.state != "done"}


SHORT = failure_of(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
