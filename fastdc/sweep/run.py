"""Runs the cells of a plan that have no result yet; several processes may do so on one store.

What ends a cell ends only that cell: it becomes a row with its reason. What ends the sweep (a signal, a full disk,
a damaged store) gives the running cell back first, and its checkpoint lets the next sweep go on inside it.
"""

import shutil
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastdc.errors import DivergedError, FastDCError
from fastdc.files import prepare_workdir
from fastdc.observe.needs import ObserverNeeds
from fastdc.progress import say
from fastdc.sweep.config import SweepConfig
from fastdc.sweep.estimate import measured_rates
from fastdc.sweep.failures import classify, ends_sweep
from fastdc.sweep.lease import Lease
from fastdc.sweep.leftovers import remove_leftovers
from fastdc.sweep.meter import Meter
from fastdc.sweep.plan import Cell, Plan, make_plan
from fastdc.sweep.provenance import Watch
from fastdc.sweep.store import Rerun, Store

HEARTBEAT_SECONDS = 15.0
SILENCE_SECONDS = 120.0
POLL_SECONDS = 0.5
CRASHING_ATTEMPTS = 3


class CellResult(NamedTuple):
    """What a finished cell stores: `summary` is read by every report, `detail` only on request.

    `leftover` is a folder (its checkpoint's) that goes once the row is stored. `provenance` is told by a process that
    ran the cell elsewhere; None is measured here.
    """

    summary: dict[str, Any]
    detail: dict[str, Any]
    leftover: Path | None = None
    provenance: dict[str, Any] | None = None


Fault = Literal["failed", "diverged"]
Execute = Callable[[Cell], CellResult]
Attempt = Callable[[Sequence[Cell]], "list[CellResult | Exception]"]


class Together(NamedTuple):
    """How to train several cells at once.

    Attributes:
        group: splits cells that are to run into lists, each of which is trained at once.
        attempt: trains one such list; per cell its result, or what ended it. What it raises (the memory is short, say)
            makes the cells run one after the other, so that each has its own outcome.
    """

    group: Callable[[Sequence[Cell]], list[list[Cell]]]
    attempt: Attempt


class Outcome(NamedTuple):
    """How the sweep's cells stand when it ends.

    Attributes:
        states: cells by state.
        ran: how many this process ran.
        kept: how many of those had a result already, failed this time and keep the earlier result.
    """

    states: Counter[str]
    ran: int
    kept: int = 0

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, 1 when some run failed or diverged."""
        return int(self.states["failed"] + self.states["diverged"] + self.kept > 0)


def run_sweep(config: SweepConfig, rerun: Rerun = "missing", show_progress: bool = True) -> tuple[Plan, Outcome]:
    """Plan a sweep and run what is missing.

    torch is imported only when a cell has to run, so a sweep that is done ends in about a second.

    Raises:
        FastDCError: bad input (before any work), a full disk, a damaged store.
        KeyboardInterrupt: SIGINT or SIGTERM came; the running cell was given back, finished cells are stored.
    """
    from fastdc.sweep.cell import CellRunner, actual_device

    plan = make_plan(config)
    prepare_workdir(config.workdir)
    with Store(plan.store_path) as store, signals_interrupt():
        states = store.states()
        if missing_cells(plan, states, rerun) and (device := actual_device()) != plan.device:
            plan = make_plan(config, device)
        store.register((cell.planned() for cell in plan.cells), rerun)
        if show_progress and any(reads_observer(cell) for cell in missing_cells(plan, states, rerun)):
            from fastdc.observe.choose import tell_observer

            tell_observer(plan.train.content_hash, config.workdir, plan.observer)
        runner = CellRunner(plan, store, show_progress)
        together = Together(runner.group, runner.run_together)
        return plan, run_plan(plan, store, runner.run, show_progress, redo=rerun == "all", together=together)


def missing_cells(plan: Plan, states: dict[str, str], rerun: Rerun = "missing") -> list[Cell]:
    """Cells that a sweep would run: no result yet, and whatever `rerun` asks for on top."""
    final = {"missing": ("done", "failed", "diverged"), "failed": ("done",), "all": ()}[rerun]
    return [cell for cell in plan.runnable if states.get(cell.key) not in final]


def reads_observer(cell: Cell) -> bool:
    """Whether the cell's method reads training dynamics, or runs the observer as a teacher, or its labels do."""
    observed = cell.subset is not None and cell.subset.variant.method.info.observed
    return observed or any(teacher.is_observer for teacher in cell.teachers)


def observer_needs(cells: Iterable[Cell]) -> ObserverNeeds:
    """What all `cells` read of the observer: their methods its record, teachers its weights."""
    cells = list(cells)
    needs = ObserverNeeds(weights=any(teacher.is_observer for cell in cells for teacher in cell.teachers))
    for variant in {id(cell.subset.variant): cell.subset.variant for cell in cells if cell.subset is not None}.values():
        if variant.method.info.observed:
            needs |= variant.method.observer_needs(variant.config)
    return needs


def run_plan(
    plan: Plan,
    store: Store,
    execute: Execute,
    show_progress: bool = True,
    *,
    redo: bool = False,
    together: Together | None = None,
) -> Outcome:
    """Run the registered cells of a plan until every one has an end state, sharing them with other sweeps.

    Args:
        execute: trains one cell; what it raises is stored as that cell's reason.
        redo: run finished cells once more, where they were registered with "all".
        together: trains cells that can share the work of decoding; None trains one after the other.
    """
    remove_leftovers(plan.config.workdir, store)
    attempts = store.attempts()
    # A cell that took its process down several times goes last, so that the others are done before it tries again.
    todo = missing_cells(plan, store.states(redo))
    todo.sort(key=lambda cell: attempts.get(cell.key, 0) >= CRASHING_ATTEMPTS)
    meter = Meter(todo, len(plan.runnable), measured_rates(store.records(), plan) if todo else None, show_progress)
    silent = SilentWorkers()
    ran = kept = 0
    while todo:
        for cells in split_groups(todo, attempts, together):
            leased = [(cell, lease) for cell in cells if (lease := store.claim(cell.key, redo)) is not None]
            if leased:
                attempt = None if together is None or len(leased) == 1 else together.attempt
                went_well = run_cells(leased, store, execute, attempt, meter)
                ran += len(leased)
                kept += sum(lease.redo and not well for (_, lease), well in zip(leased, went_well, strict=True))
        states = store.states(redo)
        todo = missing_cells(plan, states)
        if todo and all(states[cell.key] == "running" for cell in todo):
            meter.waiting(len(todo))
            silent.expire(store, {cell.key for cell in todo})
            time.sleep(POLL_SECONDS)
    states = store.states()
    return Outcome(Counter(states[cell.key] for cell in plan.cells), ran, kept)


def split_groups(todo: list[Cell], attempts: dict[str, int], together: Together | None) -> list[list[Cell]]:
    """Cells that are trained at once. One that was begun before and did not end is alone: it may take others down."""
    fresh = [cell for cell in todo if attempts.get(cell.key, 0) == 0]
    grouped = [[cell] for cell in fresh] if together is None else together.group(fresh)
    return grouped + [[cell] for cell in todo if attempts.get(cell.key, 0) > 0]


def run_cells(
    leased: Sequence[tuple[Cell, Lease]], store: Store, execute: Execute, attempt: Attempt | None, meter: Meter
) -> list[bool]:
    """Train cells under their leases, at once by `attempt` if there is one, and store how each ended; which went well.

    Every result is stored before anything that ends the sweep is raised.

    Raises:
        OutputError, StoreError, OSError: the disk or the store is at fault, and would be for every other cell.
    """
    cells = [cell for cell, _ in leased]
    meter.start(cells)
    watch = Watch()
    try:
        with ExitStack() as hearts:
            for _, lease in leased:
                hearts.enter_context(Heart(store, lease))
            results = None if attempt is None else _attempt_together(attempt, cells)
            if results is None:
                return [_keep(*pair, _attempt_alone(execute, pair[0]), store, meter, watch) for pair in leased]
            ending = [result for result in results if isinstance(result, Exception) and ends_sweep(result)]
            pairs = [pair for pair in zip(leased, results, strict=True) if pair[1] not in ending]
            went_well = [_keep(*pair, result, store, meter, watch) for pair, result in pairs]
            if ending:
                raise ending[0]
            return went_well
    except BaseException:
        for _, lease in leased:
            store.release(lease)  # what is stored stays stored
        raise


def _attempt_together(attempt: Attempt, cells: Sequence[Cell]) -> "list[CellResult | Exception] | None":
    """The results of a group, None where it could not be trained as one."""
    try:
        return attempt(cells)
    except Exception as error:
        if ends_sweep(error):
            raise
        reason = " ".join(str(error).split())[:200]
    # Outside the block, where nothing refers to the failed attempt's memory any more.
    say(f"{len(cells)} runs could not be trained together ({reason}); one by one now")
    return None


def _attempt_alone(execute: Execute, cell: Cell) -> CellResult | Exception:
    try:
        return execute(cell)
    except Exception as error:
        if ends_sweep(error):
            raise
        return error


def _keep(cell: Cell, lease: Lease, result: CellResult | Exception, store: Store, meter: Meter, watch: Watch) -> bool:
    """Store how a cell ended; whether it ended well."""
    if isinstance(result, CellResult):
        made_by = result.provenance or watch.told(cell)
        try:
            stored = store.finish(lease, "done", summary=result.summary, detail=result.detail, provenance=made_by)
        except ValueError as error:  # a number in it is NaN
            return _keep(cell, lease, error, store, meter, watch)
        if result.leftover is not None:
            shutil.rmtree(result.leftover, ignore_errors=True)
        meter.done(cell, result.summary, stored)
        return True
    outcome: Fault = "diverged" if isinstance(result, DivergedError) else "failed"
    trace = None if isinstance(result, FastDCError) else "".join(traceback.format_exception(result))
    reason, failure = one_line(result), classify(result)
    store.finish(lease, outcome, reason=reason, trace=trace, failure=failure, provenance=watch.told(cell))
    meter.fault(cell, outcome, reason + ("; its earlier result is kept" if lease.redo else ""))
    return False


def one_line(error: BaseException) -> str:
    """An error as one line; a kind that fastdc does not raise on purpose is named."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, FastDCError):
        return text
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return f"out of memory ({text[:200]}); lower the protocol's batch_size or the image size"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check path and permissions"
    return f"unexpected {type(error).__name__}: {text[:500]}"


class Heart:
    """Shows, while a cell runs, that its process lives: other hosts cannot look for the process."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store, self._lease = store, lease
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="fastdc-heart", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                if not self._store.heartbeat(self._lease):
                    return
            except FastDCError:
                continue  # a busy store; the next beat may pass, and the result is stored by the main thread


class SilentWorkers:
    """Finds workers of other hosts that show no sign of life, by this process's clock alone.

    A run's heartbeat is compared with itself, never with our time of day, so clocks may differ or jump.
    """

    def __init__(self, silence: float = SILENCE_SECONDS) -> None:
        self._silence = silence
        self._seen: dict[str, tuple[str, float, float]] = {}

    def expire(self, store: Store, keys: set[str]) -> None:
        """Take back the runs among `keys` whose worker was silent for too long."""
        now = time.monotonic()
        for key, worker in store.workers().items():
            token, beat, since = self._seen.get(key, ("", 0.0, now))
            if (token, beat) != (worker.token, worker.heartbeat):
                since = now
            self._seen[key] = (worker.token, worker.heartbeat, since)
            if key in keys and now - since > self._silence:
                store.expire(key, worker.token)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt while the block runs (main thread only)."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
