"""Schedule cells on many workers: assign them, order them by what they need, and recover from lost workers.

This file does not know how workers are started. A `Pool` starts them, sends them requests and reports the answers. Only
this process writes the store: it claims a cell when a worker is free, keeps its lease alive, and stores how it ended.
"""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from fastdc.common.errors import WorkerError
from fastdc.common.log import log_message
from fastdc.sweep.cell_networks import networks_of
from fastdc.sweep.cells import Cell
from fastdc.sweep.launch.remote_bars import RunBars
from fastdc.sweep.launch.worker import Answer, Told
from fastdc.sweep.provenance import Watch
from fastdc.sweep.run_cells import POLL_SECONDS, CellFailure, claim_cells, keep_result
from fastdc.sweep.store.heartbeats import Heart
from fastdc.sweep.store.lease import Lease
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_progress import Meter
from fastdc.track.events import publish

MOST_TRIES = 3
"""Tries after which a lost worker, or a fault of the machine, fails a cell or one of its needs."""

MOST_FAILED_STARTS = 3
"""Number of workers that fail to start in a row, with none at work, after which the sweep ends."""

FORGET_SECONDS = 600.0
"""Time after which a place where no worker could start is tried again."""

SLOW_START_SECONDS = 60.0

Call = Literal["open", "make_network", "make_subset", "run"]


class Event(NamedTuple):
    """Hold an event of a worker: its answer to a request, "news" during one, or "lost".

    A lost worker never answers again; its `value` is the reason.
    """

    worker: int
    call: "Call | Literal['news', 'lost']"
    value: Any


class Pool(Protocol):
    """Interface to workers, which are known by number.

    A worker handles its requests in the order in which they are sent. Its first event is `open`.
    """

    def capacity(self) -> int:
        """Return the number of workers that can exist now."""

    def start(self) -> int:
        """Start one more worker and return its number."""

    def send(self, worker: int, call: Call, *arguments: Any) -> None:
        """Send a request to a worker without waiting for the answer."""

    def wait(self, seconds: float) -> list[Event]:
        """Return the events that have occurred; wait up to `seconds` for the first."""

    def drop(self, worker: int) -> None:
        """End a worker at once."""


Need = tuple[str, str]
"""Something that has to be made before a cell can run: its kind, "network" or "subset", and its key."""


@dataclass
class Job:
    """Hold the work of one worker.

    Attributes:
        leased: the cells to run, each with its lease.
        making: prerequisites that the worker makes first, in order.
        hearts: heartbeats of the leases; closed when the job ends.
    """

    leased: list[tuple[Cell, Lease]]
    making: list[Need]
    hearts: ExitStack = field(default_factory=ExitStack)


class PoolSpread:
    """Scheduler that spreads cells over the workers of a pool; see `Spread`."""

    def __init__(self, store: Store, pool: Pool, show_progress: bool = True) -> None:
        self._store, self._pool, self._show_progress = store, pool, show_progress
        self._bars = RunBars(show_progress)
        self._idle: list[int] = []
        self._starting: set[int] = set()
        self._jobs: dict[int, Job] = {}
        self._queue: list[Sequence[Cell]] = []
        self._made: set[Need] = set()
        self._broken: dict[Need, CellFailure] = {}
        self._tries: Counter[str | Need] = Counter()  # tries that ended badly, by cell key or need
        self._failed_starts: list[float] = []  # times, by time.monotonic
        self._failed_in_a_row = 0
        self._alone_since = time.monotonic()

    def run(self, groups: Sequence[Sequence[Cell]], redo: bool, meter: Meter) -> list[tuple[Lease, bool]]:
        """See `Spread.run`.

        Raises:
            WorkerError: no worker can be started.
            OutputError, StoreError, OSError: the disk or the store is at fault, so every other cell would fail too.
        """
        self._queue = list(groups)
        self._alone_since = time.monotonic()
        self._redo, self._meter = redo, meter
        self._ended: list[tuple[Lease, bool]] = []
        something_ended = True
        try:
            while self._queue or self._jobs:
                self._hire()
                # Without an answer no more cells can start than before, and a search through thousands takes time.
                if something_ended:
                    self._assign()
                events = self._pool.wait(POLL_SECONDS)
                something_ended = any(event.call != "news" for event in events)
                for event in events:
                    self._handle(event)
            return self._ended
        except BaseException:
            self._give_back()
            raise
        finally:
            self._bars.close()

    # ---------------------------------------------------------------- workers

    def _hire(self) -> None:
        """Start as many workers as the pool can have and the cells can use."""
        capacity = self._pool.capacity()
        if self._jobs or self._idle:  # do not retry a host that can start no worker without a pause
            capacity -= sum(time.monotonic() - when < FORGET_SECONDS for when in self._failed_starts)
        elif self._failed_in_a_row >= MOST_FAILED_STARTS:
            capacity = 0  # the sweep ends unless one of the workers now starting succeeds
        wanted = min(capacity, len(self._queue) + len(self._jobs))
        self._meter.workers(wanted)
        for _ in range(wanted - len(self._starting) - len(self._idle) - len(self._jobs)):
            self._starting.add(self._pool.start())
        now = time.monotonic()
        if self._jobs or self._idle:
            self._alone_since = now
        elif now - self._alone_since > SLOW_START_SECONDS:
            self._alone_since = now
            self._say("still waiting for a worker: the cluster has no host with room, or other work holds it")

    def _opened(self, worker: int, problem: str | None) -> None:
        self._starting.discard(worker)
        if problem is None:
            self._idle.append(worker)
            self._failed_in_a_row = 0
            return
        self._pool.drop(worker)
        self._failed_starts.append(time.monotonic())
        # Failures next to working workers do not count: the limit is for a sweep that can start none at all.
        self._failed_in_a_row = 0 if self._jobs or self._idle else self._failed_in_a_row + 1
        if self._failed_in_a_row >= MOST_FAILED_STARTS and not self._starting:
            raise WorkerError(f"{self._failed_in_a_row} workers could not be started: {problem}")
        self._say(f"a worker could not be started: {problem}")

    def _lost(self, worker: int, reason: str) -> None:
        """Remove a lost worker and run its cells, and nothing else, again."""
        self._pool.drop(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        job = self._jobs.pop(worker, None)
        if job is None:
            if worker in self._starting:
                self._opened(worker, reason)
            return
        # Provenance {} instead of None: this process did not run the cell, so it has nothing to measure.
        last = CellFailure("failed", f"its worker was lost {MOST_TRIES} times: {reason}", "infrastructure", None, {})
        if job.making and not self._may_try_again(job.making[0]):
            self._broken[job.making[0]] = last  # so that other cells that need it do not lose more workers
        for cell, lease in job.leased:
            # While it made a prerequisite the cells are not at fault. They fail from the queue once it has no tries.
            if job.making or self._may_try_again(cell.key):
                self._run_again(cell, lease, f"its worker was lost ({reason})")
            else:
                self._keep(cell, lease, last)
        job.hearts.close()

    def _may_try_again(self, what: str | Need) -> bool:
        """Count a try that ended badly and return whether another is allowed."""
        self._tries[what] += 1
        return self._tries[what] < MOST_TRIES

    def _run_again(self, cell: Cell, lease: Lease, reason: str) -> None:
        self._say(f"{cell.name}: {reason}; runs again")
        self._bars.end(cell.name)
        self._store.release(lease)
        self._queue.append([cell])  # in a group of its own: one of several may have made all of them fail

    # ---------------------------------------------------------------- cells

    def _assign(self) -> None:
        """Give each idle worker the first cells in the queue that need not wait."""
        while self._idle and (job := self._next_job()) is not None:
            worker = self._idle.pop()
            self._jobs[worker] = job
            cells = [cell for cell, _ in job.leased]
            for _, lease in job.leased:
                job.hearts.enter_context(Heart(self._store, lease))
            self._meter.start(cells)
            for kind, key in job.making:
                if kind == "network":
                    self._pool.send(worker, "make_network", key)
                else:
                    self._pool.send(worker, "make_subset", cells[0].key)
            self._pool.send(worker, "run", [cell.key for cell in cells], self._costs(cells))

    def _next_job(self) -> Job | None:
        making = {need for job in self._jobs.values() for need in job.making}
        for cells in list(self._queue):
            needs = self._needs(cells[0])  # cells of one group share their subset and teacher
            if making.intersection(needs):
                continue  # another worker makes what they need
            self._queue.remove(cells)
            leased = claim_cells(self._store, cells, self._redo)
            failures = [self._broken[need] for need in needs if need in self._broken]
            if failures:
                for cell, lease in leased:
                    self._keep(cell, lease, failures[0])
            elif leased:
                return Job(leased, needs)
        return None

    def _needs(self, cell: Cell) -> list[Need]:
        """Return the cell's prerequisites that are not known to exist, in the order of their making."""
        needs = [("network", key) for key in networks_of(cell)]
        subset = cell.subset
        if subset is not None and subset.ipc is not None:
            there = self._store.subset_cost(subset.key) is not None and subset.path.exists()
            needs += [] if there else [("subset", subset.key)]
        return [need for need in needs if need not in self._made]

    def _costs(self, cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
        keys = {cell.subset.key for cell in cells if cell.subset is not None}
        return {key: cost for key in keys if (cost := self._store.subset_cost(key)) is not None}

    # ---------------------------------------------------------------- events

    def _handle(self, event: Event) -> None:
        if event.call == "open":
            self._opened(event.worker, event.value)
        elif event.call == "lost":
            self._lost(event.worker, event.value)
        elif event.call == "news":
            self._tell(event.value)
        elif event.worker in self._jobs:
            self._answered(event.worker, event.call, event.value)

    def _answered(self, worker: int, call: str, answer: Answer) -> None:
        job = self._jobs[worker]
        self._tell(answer.events)
        for line in answer.said.splitlines():
            self._say(line)
        for key, (label, cost) in answer.costs.items():
            self._store.keep_subset_cost(key, label, cost)
        if call == "run":
            self._finish(worker, job, answer)
        else:
            need, failure = job.making.pop(0), answer.failure
            if failure is None:
                self._made.add(need)
            elif failure.failure != "infrastructure" or not self._may_try_again(need):
                # Cells that wait for it fail too, without another try.
                self._broken[need] = failure._replace(provenance={})
        if answer.ends is not None:
            raise answer.ends

    def _tell(self, told: Told) -> None:
        for _, event in told:
            publish(event)
            self._bars.hear(event)

    def _finish(self, worker: int, job: Job, answer: Answer) -> None:
        del self._jobs[worker]
        results: list[Any] = list(answer.results)
        if answer.failure is not None:
            results = [answer.failure._replace(provenance={})] * len(job.leased)
        unsound = False
        for (cell, lease), result in zip(job.leased, results, strict=False):  # fewer results if the sweep ends
            failed = isinstance(result, CellFailure)
            of_the_machine = failed and result.failure == "infrastructure"
            unsound |= of_the_machine or (failed and result.trace is not None)
            if of_the_machine and self._may_try_again(cell.key):
                self._run_again(cell, lease, result.reason)
            else:
                self._keep(cell, lease, result)
        for _, lease in job.leased[len(results) :]:
            self._store.release(lease)
        job.hearts.close()
        if unsound:
            self._pool.drop(worker)  # such an error may leave the process broken, above all its GPU
        else:
            self._idle.append(worker)

    def _keep(self, cell: Cell, lease: Lease, result: Any) -> None:
        self._bars.end(cell.name)
        self._ended.append((lease, keep_result(cell, lease, result, self._store, self._meter, Watch())))

    def _give_back(self) -> None:
        """Release every running cell for the next sweep; stored results stay."""
        for job in self._jobs.values():
            for _, lease in job.leased:
                self._store.release(lease)
        # Heartbeats stop after the leases are back: closing them waits for their threads.
        for job in self._jobs.values():
            job.hearts.close()
        self._jobs.clear()

    def _say(self, text: str) -> None:
        if self._show_progress:
            log_message(text)
