"""Runs the cells of a plan that have no result yet; several processes may do so on one store.

What ends a cell ends only that cell: it becomes a row with its reason. What ends the sweep (a signal, a full disk,
a damaged store) gives the running cell back first, and its checkpoint lets the next sweep go on inside it.
"""

import errno
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from fastdc.errors import DivergedError, FastDCError, OutputError, StoreError
from fastdc.files import prepare_workdir
from fastdc.progress import format_seconds, say
from fastdc.sweep.config import SweepConfig
from fastdc.sweep.estimate import Rates, measured_rates
from fastdc.sweep.lease import Lease
from fastdc.sweep.plan import Cell, Plan, make_plan
from fastdc.sweep.store import Rerun, Store

HEARTBEAT_SECONDS = 15.0
SILENCE_SECONDS = 120.0
POLL_SECONDS = 0.5
CRASHING_ATTEMPTS = 3
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
QUIET_SECONDS = 20.0  # a shorter cell is not announced, only its end is


class CellResult(NamedTuple):
    """What a finished cell stores: `summary` is read by every report, `detail` only on request."""

    summary: dict[str, Any]
    detail: dict[str, Any]


Fault = Literal["failed", "diverged"]
Execute = Callable[[Cell], CellResult]


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
        return plan, run_plan(plan, store, runner.run, show_progress, redo=rerun == "all")


def missing_cells(plan: Plan, states: dict[str, str], rerun: Rerun = "missing") -> list[Cell]:
    """Cells that a sweep would run: no result yet, and whatever `rerun` asks for on top."""
    final = {"missing": ("done", "failed", "diverged"), "failed": ("done",), "all": ()}[rerun]
    return [cell for cell in plan.runnable if states.get(cell.key) not in final]


def reads_observer(cell: Cell) -> bool:
    """Whether the cell's method reads training dynamics."""
    return cell.subset is not None and "dynamics" in cell.subset.variant.method.info.needs


def run_plan(plan: Plan, store: Store, execute: Execute, show_progress: bool = True, *, redo: bool = False) -> Outcome:
    """Run the registered cells of a plan until every one has an end state, sharing them with other sweeps.

    Args:
        execute: trains one cell; what it raises is stored as that cell's reason.
        redo: run finished cells once more, where they were registered with "all".
    """
    attempts = store.attempts()
    # A cell that took its process down several times goes last, so that the others are done before it tries again.
    todo = missing_cells(plan, store.states(redo))
    todo.sort(key=lambda cell: attempts.get(cell.key, 0) >= CRASHING_ATTEMPTS)
    meter = Meter(todo, len(plan.runnable), measured_rates(store.records(), plan) if todo else None, show_progress)
    silent = SilentWorkers()
    ran = kept = 0
    while todo:
        for cell in todo:
            lease = store.claim(cell.key, redo)
            if lease is not None:
                went_well = run_cell(cell, lease, store, execute, meter)
                ran += 1
                kept += lease.redo and not went_well
        states = store.states(redo)
        todo = missing_cells(plan, states)
        if todo and all(states[cell.key] == "running" for cell in todo):
            meter.waiting(len(todo))
            silent.expire(store, {cell.key for cell in todo})
            time.sleep(POLL_SECONDS)
    states = store.states()
    return Outcome(Counter(states[cell.key] for cell in plan.cells), ran, kept)


def run_cell(cell: Cell, lease: Lease, store: Store, execute: Execute, meter: "Meter") -> bool:
    """Train one cell under its lease and store how it ended; whether it ended well."""
    meter.start(cell)
    try:
        with Heart(store, lease):
            try:
                result = execute(cell)
                stored = store.finish(lease, "done", summary=result.summary, detail=result.detail)
                meter.done(cell, result.summary, stored)
                return True
            except (OutputError, StoreError):
                raise  # the disk or the store is at fault, and would be for every other cell
            except Exception as error:
                if isinstance(error, OSError) and error.errno in DISK_FULL:
                    raise
                outcome: Fault = "diverged" if isinstance(error, DivergedError) else "failed"
                trace = None if isinstance(error, FastDCError) else traceback.format_exc()
                store.finish(lease, outcome, reason=one_line(error), trace=trace)
                meter.fault(cell, outcome, one_line(error) + ("; its earlier result is kept" if lease.redo else ""))
                return False
    except BaseException:
        store.release(lease)
        raise


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


class Meter:
    """One line on stderr per cell, with the time left: expected seconds, corrected by how the past ones went."""

    def __init__(self, todo: list[Cell], total: int, rates: Rates | None, enabled: bool) -> None:
        self._left = {cell.key: rates.seconds(cell) for cell in todo} if rates else {}
        self._total, self._enabled = total, enabled
        self._spent = self._expected = 0.0
        self._started = 0.0
        self._waited = False

    def start(self, cell: Cell) -> None:
        """A cell begins."""
        self._started = time.monotonic()
        if self._left.get(cell.key, 0.0) >= QUIET_SECONDS:
            self._say(f"{cell.name}: started")

    def done(self, cell: Cell, summary: dict[str, Any], stored: bool) -> None:
        """A cell ended well."""
        text = f"{summary['top1']:.2f} % top-1" if "top1" in summary else "done"
        if not stored:
            text += " (another sweep had taken it over and keeps its own result)"
        self._end(cell, text)

    def fault(self, cell: Cell, outcome: str, reason: str) -> None:
        """A cell failed or diverged."""
        self._end(cell, f"{outcome}: {reason}")

    def waiting(self, count: int) -> None:
        """Nothing left to start, but other sweeps still run some of our cells."""
        if not self._waited:
            self._say(f"waiting for {count} run(s) that another sweep on this store is at")
        self._waited = True

    def _end(self, cell: Cell, text: str) -> None:
        seconds = time.monotonic() - self._started
        self._spent += seconds
        self._expected += self._left.pop(cell.key, 0.0)
        self._say(f"{cell.name}: {text} in {format_seconds(seconds)}{self._time_left()}")

    def _time_left(self) -> str:
        if not self._left or not self._expected:
            return ""
        return f", {format_seconds(sum(self._left.values()) * self._spent / self._expected)} left"

    def _say(self, text: str) -> None:
        self._enabled = self._enabled and say(f"[{self._total - len(self._left)}/{self._total}] {text}")
