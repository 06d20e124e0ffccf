"""Run the cells of a plan that have no result yet; several processes may do so on one store.

An error in a cell ends only that cell, whose row states the reason. A signal, a full disk or a damaged store ends the
sweep. The running cell is then given back first, and the next sweep continues from its checkpoint.
"""

import time
from collections import Counter
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

from fastdc.beton.missing_manifest import one_use
from fastdc.common.choices import Device
from fastdc.common.files import prepare_workdir
from fastdc.common.log import progress_shown, shows_progress
from fastdc.common.machine import guess_device
from fastdc.observe.choose_observer import report_observer
from fastdc.sweep.cell_groups import split_groups
from fastdc.sweep.cell_networks import reads_observer
from fastdc.sweep.cell_runner import CellRunner, actual_device
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.estimate import measured_rates
from fastdc.sweep.holdout import write_holdout
from fastdc.sweep.launch.cell_worker import release_memory
from fastdc.sweep.launch.in_process import InProcess
from fastdc.sweep.launch.scheduler import Scheduler
from fastdc.sweep.launch.workers import Launcher, Workers
from fastdc.sweep.plan import Plan
from fastdc.sweep.stop_signals import signals_interrupt
from fastdc.sweep.store.heartbeats import SilentHolders
from fastdc.sweep.store.leftovers import remove_leftovers
from fastdc.sweep.store.results import Rerun, Store
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.sweep.sweep_progress import Meter
from fastdc.sweep.sweep_record import record_sweep
from fastdc.track import emit, watching

POLL_SECONDS = 0.5


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
    config: SweepConfig,
    rerun: Rerun = "missing",
    show_progress: bool = True,
    launcher: Launcher | None = None,
    only: Collection[str] | None = None,
) -> tuple[Plan, Outcome]:
    """Plan a sweep and run the missing cells.

    torch is imported only if a cell has to run, so a finished sweep returns in about a second.

    Args:
        config: the sweep's configuration.
        rerun: which finished or failed cells to run again.
        show_progress: report the progress on stderr.
        launcher: the place where workers run the cells; None runs them one after the other in this process.
        only: keys of the cells to run; None runs all.

    Raises:
        FastDCError: bad input (before any work), a full disk, or a damaged store.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP arrived. The running cell was given back, finished cells are
            stored.
    """
    plan = _planned(config, guess_device(), launcher, only)
    prepare_workdir(config.workdir)
    with (
        progress_shown(show_progress),
        Store(plan.store_path) as store,
        signals_interrupt() as take_signals,
        watching(config.track, config.workdir),
    ):
        states = store.states()
        if plan.missing(states, rerun):
            store.check()
            plan = _with_holdout(plan)
            device = actual_device() if launcher is None else launcher.device()
            take_signals()  # Ray has replaced the handler of SIGTERM
            plan = plan if device == plan.device else _planned(config, device, launcher, only)  # a guess
            # Before `register`, so that a refused sweep leaves no rows.
            CellRunner(plan, store).check_teachers(plan.missing(states, rerun))
            release_memory()  # or workers on this GPU would not find what the teachers took
        record_sweep(config, plan)
        store.register((cell.planned() for cell in plan.cells), rerun)
        if shows_progress() and any(reads_observer(cell) for cell in plan.missing(states, rerun)):
            report_observer(plan.train.content_hash, plan.config.workdir, plan.observer)
        redo = rerun == "all"
        # With nothing to run, no workers are opened; `run_plan` only reports the states.
        place = launcher if plan.missing(store.states(redo)) else None
        with nullcontext() if place is None else place.open(plan) as workers:
            return plan, run_plan(plan, store, workers, redo=redo)


def _planned(config: SweepConfig, device: Device, launcher: Launcher | None, only: Collection[str] | None) -> Plan:
    plan = make_plan(config if launcher is None else launcher.resolve(config, device), device)
    return plan if only is None else replace(plan, cells=[cell for cell in plan.cells if cell.key in only])


def _with_holdout(plan: Plan) -> Plan:
    """Return the plan with the manifests of the parts of its split, which are written where they are missing."""
    if plan.holdout is None or not plan.holdout.bytes_left:
        return plan
    train, val = write_holdout(plan.holdout)
    return replace(plan, train=train, val=val, holdout=replace(plan.holdout, bytes_left=0))


def run_plan(plan: Plan, store: Store, workers: Workers | None = None, *, redo: bool = False) -> Outcome:
    """Run the registered cells of a plan until every cell has an end state, sharing them with other sweeps.

    Args:
        plan: the checked sweep.
        store: its result store.
        workers: run the cells; None runs them one after the other in this process.
        redo: run finished cells once more, if they were registered with "all".
    """
    remove_leftovers(plan.config.workdir, store)
    todo = plan.missing(store.states(redo))
    rates = measured_rates(store.records(), plan) if todo else None
    meter = Meter({cell.key: rates.seconds(cell) for cell in todo} if rates else {}, len(plan.runnable))
    workers = workers or InProcess(plan, store)
    scheduler = Scheduler(store, workers, meter, redo)
    silent = SilentHolders()
    while todo:
        scheduler.run(split_groups(plan, todo, store.attempts(), workers.capacity()))
        states = store.states(redo)
        todo = plan.missing(states)
        # Only cells of other sweeps are left: wait for them, or take them back if their worker has gone silent.
        if todo and all(states[cell.key] == "running" for cell in todo):
            meter.waiting(len(todo))
            silent.expire(store, {cell.key for cell in todo})
            time.sleep(POLL_SECONDS)
    states = store.states()
    # A skipped cell may have no row: another sweep whose settings can run it deletes the row.
    outcome = Outcome(Counter(states.get(cell.key, "skipped") for cell in plan.cells), scheduler.ran, scheduler.kept)
    emit("sweep_ended", cells=len(plan.cells), ran=outcome.ran, states=dict(outcome.states))
    return outcome
