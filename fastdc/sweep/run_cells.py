"""Run the cells of a plan that have no result yet; several processes may do so on one store.

An error in a cell ends only that cell, whose row states the reason. A signal, a full disk or a damaged store ends the
sweep. The running cell is then given back first, and the next sweep continues from its checkpoint.
"""

import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from fastdc.beton.missing_manifest import one_use
from fastdc.common.choices import Device
from fastdc.common.errors import DivergedError, FastDCError
from fastdc.common.files import prepare_workdir
from fastdc.common.log import log_message
from fastdc.sweep.cell_networks import reads_observer
from fastdc.sweep.cells import Cell, Plan, make_plan
from fastdc.sweep.failures import Failure, classify, ends_sweep, loses_device
from fastdc.sweep.forecast.estimate import measured_rates
from fastdc.sweep.holdout import write_holdout
from fastdc.sweep.provenance import Watch
from fastdc.sweep.stop_signals import signals_interrupt
from fastdc.sweep.store.heartbeats import Heart, SilentWorkers
from fastdc.sweep.store.lease import Lease
from fastdc.sweep.store.leftovers import remove_leftovers
from fastdc.sweep.store.results import Rerun, Store
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.sweep.sweep_progress import Meter
from fastdc.track import emit, watching

POLL_SECONDS = 0.5


class CellResult(NamedTuple):
    """Hold the result of a finished cell.

    Attributes:
        summary: values that every report reads.
        detail: values that are read only on request.
        leftover: folder of the checkpoint, which is removed once the row is stored.
        provenance: from the process that ran the cell elsewhere; None means that this process measures it.
    """

    summary: dict[str, Any]
    detail: dict[str, Any]
    leftover: Path | None = None
    provenance: dict[str, Any] | None = None


Fault = Literal["failed", "diverged"]


class CellFailure(NamedTuple):
    """Describe how a cell failed.

    Attributes:
        outcome: failed or diverged.
        reason: one line for its row.
        failure: class of the failure.
        trace: traceback of an unexpected error.
        provenance: as in `CellResult`.
    """

    outcome: Fault
    reason: str
    failure: Failure
    trace: str | None = None
    provenance: dict[str, Any] | None = None


Execute = Callable[[Cell], CellResult | CellFailure]
Attempt = Callable[[Sequence[Cell]], "list[CellResult | Exception]"]
RunAlone = Callable[[Cell], CellResult | CellFailure | None]
"""Runs a cell in another process, whose crash leaves this one unharmed; returns None if that is not possible."""


class Together(NamedTuple):
    """Hold the functions that train several cells at once.

    Attributes:
        group: splits the cells to run into lists, each of which is trained at once.
        attempt: trains one such list and returns for each cell its result, or the error that ended it. If it raises
            (too little memory, say), the cells run one after the other, so that each has its own outcome.
    """

    group: Callable[[Sequence[Cell]], list[list[Cell]]]
    attempt: Attempt


class Launcher(Protocol):
    """Interface to workers that run cells outside this process."""

    def device(self) -> Device:
        """Return the device on which the workers compute, starting whatever is needed to find out."""

    def workers(self, plan: Plan) -> int:
        """Return the number of cells of `plan` that it could run side by side now."""

    def close(self) -> None:
        """Release what `device` started; `open` does so at its end."""

    def open(self, plan: Plan, store: Store, show_progress: bool) -> AbstractContextManager["Spread"]:
        """Open workers for the cells of `plan`; they end with the block."""


class Spread(Protocol):
    """Interface to open workers."""

    def run(self, groups: Sequence[Sequence[Cell]], redo: bool, meter: Meter) -> "list[tuple[Lease, bool]]":
        """Claim and run cells, each group on one worker, and store how each cell ended.

        Args:
            groups: cells, in groups that one worker trains at once.
            redo: run finished cells once more, if they were registered for it.
            meter: reports the progress.

        Returns:
            The lease of each cell that ended, and whether it succeeded.
        """


class Outcome(NamedTuple):
    """Hold the states of a sweep's cells at its end.

    Attributes:
        states: number of cells by state.
        ran: number of cells that this process ran.
        kept: number of those that had a result already, failed this time and keep the earlier result.
    """

    states: Counter[str]
    ran: int
    kept: int = 0

    @property
    def exit_code(self) -> int:
        """Return 0 if nothing failed, 1 if some run failed or diverged."""
        return int(self.states["failed"] + self.states["diverged"] + self.kept > 0)


@one_use()
def run_sweep(
    config: SweepConfig, rerun: Rerun = "missing", show_progress: bool = True, launcher: Launcher | None = None
) -> tuple[Plan, Outcome]:
    """Plan a sweep and run the missing cells.

    torch is imported only if a cell has to run, so a finished sweep returns in about a second.

    Args:
        config: the sweep's configuration.
        rerun: which finished or failed cells to run again.
        show_progress: report the progress on stderr.
        launcher: runs the cells elsewhere; None runs them one after the other in this process.

    Raises:
        FastDCError: bad input (before any work), a full disk, or a damaged store.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP arrived. The running cell was given back, finished cells are
            stored.
    """
    from fastdc.sweep.cell_runner import CellRunner, actual_device
    from fastdc.sweep.launch.own_process import Alone

    plan = make_plan(config)
    prepare_workdir(config.workdir)
    with (
        Store(plan.store_path) as store,
        signals_interrupt() as take_signals,
        watching(config.track, config.workdir, show_progress),
    ):
        states = store.states()
        if missing_cells(plan, states, rerun):
            store.check()
            plan = write_holdout(plan, show_progress)
            device = actual_device() if launcher is None else launcher.device()
            take_signals()  # Ray has replaced the handler of SIGTERM
            plan = plan if device == plan.device else make_plan(config, device)  # the first plan only guessed it
            # Before `register`, so that a refused sweep leaves no rows.
            CellRunner(plan, store, show_progress).check_teachers(missing_cells(plan, states, rerun))
        store.register((cell.planned() for cell in plan.cells), rerun)
        if show_progress and any(reads_observer(cell) for cell in missing_cells(plan, states, rerun)):
            from fastdc.observe.choose_observer import report_observer

            report_observer(plan.train.content_hash, config.workdir, plan.observer)
        runner = CellRunner(plan, store, show_progress)
        together = Together(runner.group, runner.run_together)
        redo = rerun == "all"
        # With nothing to run, no workers are opened; `run_plan` only reports the states.
        if launcher is None or not missing_cells(plan, store.states(redo)):
            here = InThisProcess(store, runner.run, together, Alone(plan, store))
            return plan, run_plan(plan, store, here, show_progress, redo=redo, together=together)
        with launcher.open(plan, store, show_progress) as spread:
            return plan, run_plan(plan, store, spread, show_progress, redo=redo, together=together)


def missing_cells(plan: Plan, states: dict[str, str], rerun: Rerun = "missing") -> list[Cell]:
    """Return the cells that a sweep would run: those without a result, and those that `rerun` adds."""
    final = {"missing": ("done", "failed", "diverged"), "failed": ("done",), "all": ()}[rerun]
    return [cell for cell in plan.runnable if states.get(cell.key) not in final]


def run_plan(
    plan: Plan,
    store: Store,
    execute: "Execute | Spread",
    show_progress: bool = True,
    *,
    redo: bool = False,
    together: Together | None = None,
) -> Outcome:
    """Run the registered cells of a plan until every cell has an end state, sharing them with other sweeps.

    Args:
        plan: the checked sweep.
        store: its result store.
        execute: function that trains one cell, whose errors are stored as that cell's reason; or workers that run
            many cells.
        show_progress: report the progress on stderr.
        redo: run finished cells once more, if they were registered with "all".
        together: trains cells that can share the work of decoding; None trains them one after the other.
    """
    remove_leftovers(plan.config.workdir, store)
    attempts = store.attempts()
    todo = missing_cells(plan, store.states(redo))
    meter = Meter(todo, len(plan.runnable), measured_rates(store.records(), plan) if todo else None, show_progress)
    silent = SilentWorkers()
    spread = InThisProcess(store, execute, together) if callable(execute) else execute
    ran = kept = 0
    while todo:
        ended = spread.run(split_groups(todo, attempts, together), redo, meter)
        ran += len(ended)
        kept += sum(lease.redo and not went_well for lease, went_well in ended)
        states = store.states(redo)
        todo = missing_cells(plan, states)
        # Only cells of other sweeps are left: wait for them, or take them back if their worker has gone silent.
        if todo and all(states[cell.key] == "running" for cell in todo):
            meter.waiting(len(todo))
            silent.expire(store, {cell.key for cell in todo})
            time.sleep(POLL_SECONDS)
    states = store.states()
    # A skipped cell may have no row: another sweep whose settings can run it deletes the row.
    outcome = Outcome(Counter(states.get(cell.key, "skipped") for cell in plan.cells), ran, kept)
    emit("sweep_ended", cells=len(plan.cells), ran=ran, states=dict(outcome.states))
    return outcome


def split_groups(todo: list[Cell], attempts: dict[str, int], together: Together | None) -> list[list[Cell]]:
    """Split cells into groups that are trained at once.

    A cell that was started before and did not end gets a group of its own. It may make others fail.
    """
    fresh = [cell for cell in todo if attempts.get(cell.key, 0) == 0]
    grouped = [[cell] for cell in fresh] if together is None else together.group(fresh)
    return grouped + [[cell] for cell in todo if attempts.get(cell.key, 0) > 0]


class InThisProcess:
    """Runner of groups of cells, one after the other, in this process.

    A cell that may have crashed an earlier process runs through `alone`, in a process of its own. So does every cell
    once this process has lost its GPU.

    Args:
        store: the result store.
        execute: trains one cell.
        together: trains groups; None trains each cell by itself.
        alone: runs a cell in a process of its own; None runs everything here.
    """

    def __init__(
        self, store: Store, execute: Execute, together: Together | None = None, alone: RunAlone | None = None
    ) -> None:
        self._store, self._execute, self._together, self._alone = store, execute, together, alone
        self._lost_device = False

    def run(self, groups: Sequence[Sequence[Cell]], redo: bool, meter: Meter) -> list[tuple[Lease, bool]]:
        """See `Spread.run`."""
        ended: list[tuple[Lease, bool]] = []
        for cells in groups:
            leased = claim_cells(self._store, cells, redo)
            with held(self._store, leased):
                sound = [] if self._lost_device else [pair for pair in leased if not pair[1].after_crash]
                apart = [pair for pair in leased if pair not in sound]
                attempt = self._attempt if self._together is not None and len(sound) > 1 else None
                went_well = run_cells(sound, self._store, self._run_here, attempt, meter) if sound else []
                for pair in apart:
                    went_well += run_cells([pair], self._store, self._run_apart, None, meter)
                ended += zip((lease for _, lease in [*sound, *apart]), went_well, strict=True)
        return ended

    def _attempt(self, cells: Sequence[Cell]) -> "list[CellResult | Exception]":
        assert self._together is not None
        with self._watching_device():
            return self._together.attempt(cells)

    def _run_here(self, cell: Cell) -> CellResult | CellFailure:
        if self._lost_device:  # an earlier cell of this group, or the try to train it at once, lost it
            return self._run_apart(cell)
        with self._watching_device():
            return self._execute(cell)

    def _run_apart(self, cell: Cell) -> CellResult | CellFailure:
        found = None if self._alone is None else self._alone(cell)
        return self._execute(cell) if found is None else found

    @contextmanager
    def _watching_device(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self._lost_device = loses_device(error)
            raise


def claim_cells(store: Store, cells: Sequence[Cell], redo: bool) -> list[tuple[Cell, Lease]]:
    """Claim those of `cells` that no other process has; return each with the lease under which it runs."""
    return [(cell, lease) for cell in cells if (lease := store.claim(cell.key, redo)) is not None]


@contextmanager
def held(store: Store, leased: Sequence[tuple[Cell, Lease]]) -> Iterator[None]:
    """Send heartbeats for leases while the block runs; an error gives back those that have no result yet."""
    try:
        with ExitStack() as hearts:
            for _, lease in leased:
                hearts.enter_context(Heart(store, lease))
            yield
    except BaseException:
        for _, lease in leased:
            store.release(lease)  # a run whose result is stored stays as it is
        raise


def run_cells(
    leased: Sequence[tuple[Cell, Lease]], store: Store, execute: Execute, attempt: Attempt | None, meter: Meter
) -> list[bool]:
    """Train cells whose leases are held, at once if there is an `attempt`, and store how each ended.

    Every result is stored before an error that ends the sweep is raised.

    Returns:
        For each cell whether it succeeded.

    Raises:
        OutputError, StoreError, OSError: the disk or the store is at fault, so every other cell would fail too.
    """
    cells = [cell for cell, _ in leased]
    meter.start(cells)
    watch = Watch()
    results = None if attempt is None else attempt_together(attempt, cells)
    if results is None:
        return [_run_one(*pair, store, execute, meter) for pair in leased]
    ending = [result for result in results if isinstance(result, Exception) and ends_sweep(result)]
    pairs = [pair for pair in zip(leased, results, strict=True) if pair[1] not in ending]
    went_well = [keep_result(*pair, result, store, meter, watch) for pair, result in pairs]
    if ending:
        raise ending[0]
    return went_well


def _run_one(cell: Cell, lease: Lease, store: Store, execute: Execute, meter: Meter) -> bool:
    watch = Watch()  # one for each cell: several run here if their group could not be trained at once
    return keep_result(cell, lease, attempt_alone(execute, cell), store, meter, watch)


def attempt_together(attempt: Attempt, cells: Sequence[Cell]) -> "list[CellResult | Exception] | None":
    """Train a group at once and return its results; return None if that fails."""
    try:
        return attempt(cells)
    except Exception as error:
        if ends_sweep(error):
            raise
        reason = " ".join(str(error).split())[:200]
    # Outside the except block, where the error no longer keeps the failed attempt's memory alive.
    log_message(f"{len(cells)} runs could not be trained together ({reason}); one by one now")
    return None


def attempt_alone(execute: Execute, cell: Cell) -> CellResult | CellFailure | Exception:
    """Train one cell and return its result, or the error that ended it; raise errors that end the sweep."""
    try:
        return execute(cell)
    except Exception as error:
        if ends_sweep(error):
            raise
        return error


def keep_result(
    cell: Cell, lease: Lease, result: CellResult | CellFailure | Exception, store: Store, meter: Meter, watch: Watch
) -> bool:
    """Store how a cell ended; return whether it succeeded.

    Args:
        cell: the cell.
        lease: the lease under which it ran.
        result: how it ended.
        store: the result store.
        meter: reports the progress.
        watch: measures a cell that ran in this process; the result of any other brings its own provenance.
    """
    if isinstance(result, CellResult):
        made_by = result.provenance or watch.told(cell)
        try:
            stored = store.finish(lease, "done", summary=result.summary, detail=result.detail, provenance=made_by)
        except ValueError as error:  # the result holds NaN or infinity: the cell has failed
            return keep_result(cell, lease, error, store, meter, watch)
        if result.leftover is not None:
            shutil.rmtree(result.leftover, ignore_errors=True)
        meter.done(cell, result.summary, stored)
        return True
    failed = failure_of(result) if isinstance(result, Exception) else result
    made_by = watch.told(cell) if failed.provenance is None else failed.provenance
    reason, trace = failed.reason, failed.trace
    store.finish(lease, failed.outcome, reason=reason, trace=trace, failure=failed.failure, provenance=made_by)
    meter.fault(cell, failed.outcome, reason + ("; its earlier result is kept" if lease.redo else ""))
    return False


def failure_of(error: Exception) -> CellFailure:
    """Describe an error for a cell's row, in a form that any process can unpickle."""
    trace = None if isinstance(error, FastDCError) else "".join(traceback.format_exception(error))
    outcome: Fault = "diverged" if isinstance(error, DivergedError) else "failed"
    return CellFailure(outcome, one_line(error), classify(error), trace)


def one_line(error: BaseException) -> str:
    """Describe an error in one line; name the type of an error that fastdc does not raise itself."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, FastDCError):
        return text
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return f"out of memory ({text[:200]}); lower the protocol's batch_size or the image size"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check path and permissions"
    return f"unexpected {type(error).__name__}: {text[:500]}"
