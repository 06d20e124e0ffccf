"""Schedule cells on workers: assign them, order them by what they need, and store how they ended.

This file does not know how workers are started or where they run; see `Workers`. Only the scheduler's process writes
the store: it claims a cell when a worker is free, keeps its lease alive, and stores how it ended.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from fastdc.common.log import log_message
from fastdc.sweep.cell_networks import networks_of
from fastdc.sweep.cell_result import CellFailure, CellResult
from fastdc.sweep.launch.keep_result import keep_result
from fastdc.sweep.launch.remote_bars import RunBars
from fastdc.sweep.launch.retries import Retries, lost
from fastdc.sweep.launch.worker_starts import WorkerStarts, log_if_shown
from fastdc.sweep.launch.workers import (
    Costs,
    Ended,
    Event,
    Finished,
    Lost,
    Made,
    Message,
    Need,
    Request,
    Started,
    SubsetMade,
    Tracked,
    Workers,
)
from fastdc.sweep.plan import Cell
from fastdc.sweep.store.heartbeats import Heartbeat
from fastdc.sweep.store.lease import Lease
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_progress import Meter
from fastdc.track.events import publish

POLL_SECONDS = 0.5


@dataclass
class Job:
    """Hold the work of one worker.

    Attributes:
        leased: the cells that have not ended, each with its lease, by key.
        making: prerequisites that are still to be made, in order.
        clean: whether what comes next, a prerequisite or a single cell, is the first work of the worker's process.
        problems: prerequisites that could not be made, with the reasons.
        stopped: whether the last of these ended the worker, before any cell was trained.
        heartbeats: heartbeats of the leases; closed when the job ends.
        unsound: whether a cell or prerequisite failed in a way that may leave the worker's process broken, above all
            its GPU.
    """

    leased: dict[str, tuple[Cell, Lease]]
    making: list[Need]
    clean: bool = False
    problems: dict[Need, str] = field(default_factory=dict)
    stopped: bool = False
    heartbeats: ExitStack = field(default_factory=ExitStack)
    unsound: bool = False


class Scheduler:
    """Scheduler of the cells of one sweep.

    Args:
        store: the result store.
        workers: the workers that run the cells.
        meter: reports the progress.
        redo: run finished cells once more, if they were registered for it.

    Attributes:
        ran: number of cells that ended here.
        kept: number of those that had a result already, failed this time and keep the earlier result.
    """

    def __init__(self, store: Store, workers: Workers, meter: Meter, redo: bool = False) -> None:
        self._store, self._workers, self._meter, self._redo = store, workers, meter, redo
        self.ran = self.kept = 0
        self._starts = WorkerStarts(workers)
        self._bars = RunBars()
        self._jobs: dict[int, Job] = {}
        self._next = Job({}, [])  # claimed, but not yet given to a worker
        self._queue: list[Sequence[Cell]] = []
        self._made: set[Need] = set()
        self._retries = Retries(workers.separate)
        self._worked: set[int] = set()  # workers that had a request

    def run(self, groups: Sequence[Sequence[Cell]]) -> None:
        """Claim and run cells, each group on one worker, and store how each cell ended.

        Raises:
            WorkerError: no worker can be started.
            OutputError, StoreError, OSError: the disk or the store is at fault, so every other cell would fail too.
        """
        self._queue = list(groups)
        self._starts.restart_clock()
        something_ended = True
        try:
            while self._queue or self._jobs:
                self._meter.workers(self._starts.start(len(self._queue), len(self._jobs)))
                # Without such an event no more cells can start than before, and a search through thousands takes time.
                if something_ended:
                    self._assign()
                something_ended = False
                for worker, event in self._workers.wait(POLL_SECONDS):
                    something_ended |= not isinstance(event, Tracked | Message)
                    self._handle(worker, event)
        except BaseException as error:
            # A cell that ends the process, such as by sys.exit in a plug-in, would end the next sweep too.
            harmless = isinstance(error, Exception | KeyboardInterrupt)
            self._give_back(list(self._jobs.values()), counted=not harmless)
            self._give_back([self._next])
            self._jobs.clear()
            raise
        finally:
            self._bars.close()

    # ---------------------------------------------------------------- assigning

    def _assign(self) -> None:
        """Give each idle worker the first cells in the queue that need not wait."""
        while self._starts.idle and (job := self._next_job()) is not None:
            worker = self._take_worker(job)
            self._jobs[worker], self._next = job, Job({}, [])
            cells = [cell for cell, _ in job.leased.values()]
            for _, lease in job.leased.values():
                job.heartbeats.enter_context(Heartbeat(self._store, lease))
            self._meter.start(cells)
            crashed = tuple(key for key, (_, lease) in job.leased.items() if lease.after_crash)
            self._workers.send(worker, Request(tuple(job.leased), self._costs(cells), tuple(job.making), crashed))
        # Only cells that need a new process, or wait for another worker, are left for idle workers.
        only_old = self._starts.idle and self._worked.issuperset(self._starts.idle)
        if only_old and any(map(self._is_large, self._queue)):
            self._starts.replace_idle()

    def _take_worker(self, job: Job) -> int:
        """Take an idle worker; new processes are left for what needs one."""
        idle, large = self._starts.idle, self._retries.need_new_process([*job.leased, *job.making])
        worker = next((each for each in reversed(idle) if (each in self._worked) != large), idle[-1])
        idle.remove(worker)
        job.clean = worker not in self._worked and (bool(job.making) or len(job.leased) == 1)
        self._worked.add(worker)
        return worker

    def _is_large(self, cells: Sequence[Cell]) -> bool:
        # A large cell is a group of its own. The store is read for its needs, so not where nothing is large.
        return bool(self._retries.large) and self._retries.need_new_process([cells[0].key, *self._needs(cells)])

    def _next_job(self) -> Job | None:
        making = {need for job in self._jobs.values() for need in job.making}
        none_new = self._worked.issuperset(self._starts.idle)
        for cells in list(self._queue):
            needs = self._needs(cells)
            if making.intersection(needs) or (none_new and self._is_large(cells)):
                continue  # another worker makes what they need, or a new one has to start
            self._queue.remove(cells)
            job = self._next = Job({}, [])
            for cell in cells:
                if (lease := self._store.claim(cell.key, self._redo)) is not None:
                    job.leased[cell.key] = (cell, lease)
            for cell, lease in list(job.leased.values()) if self._retries.given_up.keys() & needs else ():
                if (failure := self._given_up(cell)) is not None:
                    del job.leased[cell.key]
                    self._keep(cell, lease, failure)
            if job.leased:
                job.making = self._needs([cell for cell, _ in job.leased.values()])
                return job
        return None

    def _needs(self, cells: Sequence[Cell]) -> list[Need]:
        """Return the prerequisites of cells that are not known to exist, each once, in the order of their making."""
        if not self._workers.separate:  # no other worker waits for them, so the cells make them themselves
            return []
        needs: list[Need] = [("network", key) for cell in cells for key in networks_of(cell)]
        for subset in {cell.subset.key: cell.subset for cell in cells if cell.subset is not None}.values():
            there = subset.given or (self._store.subset_cost(subset.key) is not None and subset.path.exists())
            needs += [] if there else [("subset", subset.key)]
        return [need for need in dict.fromkeys(needs) if need not in self._made]

    def _given_up(self, cell: Cell) -> CellFailure | None:
        """Return why a prerequisite of the cell was given up; None if none was."""
        given_up = self._retries.given_up
        return next((given_up[need] for need in self._needs([cell]) if need in given_up), None)

    def _costs(self, cells: Sequence[Cell]) -> Costs:
        keys = {cell.subset.key for cell in cells if cell.subset is not None}
        return {key: cost for key in keys if (cost := self._store.subset_cost(key)) is not None}

    # ---------------------------------------------------------------- events

    def _handle(self, worker: int, event: Event) -> None:
        match event:
            case Started(problem):
                self._starts.started(worker, problem, len(self._jobs))
            case Message(text):
                for line in text.splitlines():
                    log_message(line)
            case Tracked(tracked):
                publish(tracked)
                self._bars.update(tracked)
            case SubsetMade(key, label, cost):
                self._store.keep_subset_cost(key, label, cost)
            case Made(failure, ends):
                self._jobs[worker].stopped |= ends
                self._need_made(self._jobs[worker], failure)
            case Ended(key, result):
                self._cell_ended(self._jobs[worker], key, result)
            case Finished(error):
                self._finished(worker, error)
            case Lost(reason):
                self._lost(worker, reason)

    def _need_made(self, job: Job, failure: CellFailure | None) -> None:
        need = job.making.pop(0)
        clean, job.clean = job.clean, False
        if failure is None:
            self._made.add(need)
            return
        of_the_machine = failure.failure == "infrastructure"
        job.unsound |= of_the_machine
        job.problems[need] = failure.reason
        if not of_the_machine or not self._retries.may_try(need, failure, clean):
            # Cells that wait for it fail too, without another try.
            self._retries.give_up(need, failure._replace(provenance={}))

    def _cell_ended(self, job: Job, key: str, result: CellResult | CellFailure) -> None:
        if key not in job.leased:  # its process crashed after it had ended
            return
        cell, lease = job.leased.pop(key)
        if isinstance(result, CellFailure):
            of_the_machine = result.failure == "infrastructure"
            job.unsound |= of_the_machine or result.trace is not None
            if of_the_machine and self._retries.may_try(key, result, job.clean):
                self._run_again(cell, lease, result.reason)
                return
        self._keep(cell, lease, result)

    def _finished(self, worker: int, error: Exception | None) -> None:
        job = self._jobs.pop(worker)
        self._give_back([job])
        if job.unsound:
            self._workers.drop(worker)
        else:
            self._starts.idle.append(worker)
        if error is not None:
            raise error

    def _lost(self, worker: int, reason: str) -> None:
        """Remove a lost worker and run its cells, and nothing else, again."""
        job = self._jobs.pop(worker, None)
        if job is None:
            self._starts.lost(worker, reason, len(self._jobs))
            return
        self._workers.drop(worker)
        last = lost(reason)
        # If an earlier prerequisite failed, the worker ended for that one, and never tried the next.
        if job.making and not job.unsound and not self._retries.may_try(job.making[0]):
            self._retries.give_up(job.making[0], last)  # so that other cells that need it do not lose more workers
        for cell, lease in job.leased.values():
            # Cells are not at fault for a prerequisite. They fail from the queue once it has no tries.
            problem = next((job.problems[need] for need in self._needs([cell]) if need in job.problems), None)
            innocent = bool(job.making) or job.stopped or problem is not None
            if (failure := self._given_up(cell)) is not None:
                self._keep(cell, lease, failure)
            elif innocent or self._retries.may_try(cell.key):
                self._run_again(cell, lease, problem or f"its worker was lost ({reason})", counted=not innocent)
            else:
                self._keep(cell, lease, last)
        job.heartbeats.close()

    # ---------------------------------------------------------------- ends of cells

    def _run_again(self, cell: Cell, lease: Lease, reason: str, counted: bool = True) -> None:
        large = self._is_large([cell])
        log_if_shown(f"{cell.name}: {reason}; runs again{' in a new process' if large else ''}")
        self._bars.end(cell.name)
        self._store.release(lease, counted)
        # In a group of its own: one of several may have made all of them fail. In front for the worker's replacement.
        self._queue.insert(0 if large else len(self._queue), [cell])

    def _keep(self, cell: Cell, lease: Lease, result: CellResult | CellFailure) -> None:
        self._bars.end(cell.name)
        self._retries.large.discard(cell.key)
        succeeded = keep_result(cell, lease, result, self._store, self._meter)
        self.ran += 1
        self.kept += lease.redo and not succeeded

    def _give_back(self, jobs: Sequence[Job], counted: bool = False) -> None:
        """Release the cells of jobs that have not ended, for the next sweep; stored results stay."""
        for job in jobs:
            for _, lease in job.leased.values():
                self._store.release(lease, counted)
        # Heartbeats stop after the leases are back: closing them waits for their threads.
        for job in jobs:
            job.heartbeats.close()
