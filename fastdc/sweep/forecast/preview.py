"""Preview a sweep: its cells, which of them are cached, time and disk. Writes nothing."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastdc.common.log import format_seconds
from fastdc.common.text import format_bytes, plain
from fastdc.sweep.cell_networks import reads_observer
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.disk import Disk
from fastdc.sweep.forecast.estimate import Bill, Estimate, Rates, estimate, make_bill, measured_rates, rough_rates
from fastdc.sweep.forecast.probe import Probe, probed_rates
from fastdc.sweep.launch.workers import Launcher
from fastdc.sweep.observers_left import observer_records, observers_left
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.store.results import Record, Rerun, Store
from fastdc.sweep.sweep_config import SweepConfig

if TYPE_CHECKING:
    from fastdc.observe import ObserverConfig

LONG_SECONDS = 100 * 3600.0
GPU_WORK_SECONDS = 3600.0
"""Least GPU time, in seconds, that a dry run on a CPU also reports."""


class Room(NamedTuple):
    """Hold how many cells run side by side, and whether several of them share a GPU."""

    workers: int
    crowded: bool


def preview(
    config: SweepConfig, rerun: Rerun = "missing", launcher: Launcher | None = None, probe: Probe | None = None
) -> list[str]:
    """Return the lines that `fastdc sweep --dry-run` prints.

    Args:
        config: the sweep's configuration.
        rerun: which finished or failed runs the sweep would run again.
        launcher: the place where workers would run the cells; None runs them one after the other in this process.
        probe: function that times some training steps of networks without a finished run in the store, such as
            `probe_networks`. None takes rough rates and does not start torch.

    Raises:
        FastDCError: the sweep itself would be refused before any work.
    """
    plan, room = _planned(config, launcher)
    records = _records(plan.store_path)
    states = {record.key: record.state for record in records}
    todo = plan.missing(states, rerun)
    left = observers_left(plan, todo)
    rates = measured_rates(records, plan)
    if probe is not None:
        rates = probed_rates(plan, todo, rates, left, probe)
    waiting = {cell.key for cell in todo}
    stored = {record.key: record for record in records}
    lines = [_line(cell, stored.get(cell.key), cell.key in waiting, rates) for cell in plan.cells]
    expected = estimate(plan, todo, rates, left)
    return [*lines, "", *_summary(plan, states, todo, expected, room), *_on_a_gpu(plan, todo, left)]


def _planned(config: SweepConfig, launcher: Launcher | None) -> tuple[Plan, Room | None]:
    """Return the plan, and how many cells run side by side; None if this process runs them itself."""
    if launcher is None:
        return make_plan(config), None
    try:
        device = launcher.device()
        plan = make_plan(launcher.resolve(config, device), device)
        return plan, Room(launcher.capacity(plan), launcher.crowded(plan))
    finally:
        launcher.close()


def _records(path: Path) -> list[Record]:
    if not path.exists():
        return []
    with Store(path, readonly=True) as store:
        return store.records()


def _line(cell: Cell, record: Record | None, runs: bool, rates: Rates) -> str:
    if cell.skip is not None:
        return plain(f"skipped  {cell.name}: {cell.skip}")
    if not runs and record is not None:
        if record.state == "done":
            return f"cached   {cell.name}"
        kind = f" ({record.failure})" if record.failure and record.failure != record.state else ""
        return plain(f"{record.state:<8} {cell.name}{kind}: {record.reason}")
    rough = "" if rates.is_measured(cell) or rates.is_probed(cell) else ", rough"
    return f"missing  {cell.name} (about {_hours(rates.seconds(cell))}{rough})"


def _summary(
    plan: Plan, states: dict[str, str], todo: list[Cell], expected: Estimate, room: Room | None
) -> Iterable[str]:
    skipped = len(plan.cells) - len(plan.runnable)
    waiting = {cell.key for cell in todo}
    count = Counter(states.get(cell.key) for cell in plan.runnable if cell.key not in waiting)
    failed = count["failed"] + count["diverged"]
    if plan.holdout is not None:
        yield plain(plan.holdout.line)
    yield (
        f"{len(plan.cells)} runs: {count['done']} cached, {len(todo)} to run, {skipped} skipped"
        + (f", {failed} failed before (--rerun failed tries them again)" if failed else "")
    )
    yield from _observer(plan)
    where = "this machine's" if room is None else "one worker's"
    gpu_hours = f", {expected.seconds / 3600:,.1f} GPU-hours" if plan.device == "cuda" else ""
    yield f"time: about {_hours(expected.seconds)} on {where} {plan.device}{gpu_hours} ({expected.basis})"
    yield from _parts(expected.bill)
    if room is not None and todo:
        together = min(room.workers, len(todo))
        observers = expected.bill.observers  # not divided: one worker trains them while most others wait
        crowded = ", if runs on one GPU do not slow each other" if room.crowded else ""
        yield f"{together} at a time: about {_hours(observers + (expected.seconds - observers) / together)}{crowded}"
    yield (
        f"disk: about {format_bytes(expected.disk.most)} ({_disk(expected.disk)}); "
        f"{format_bytes(expected.free_bytes)} free at {plan.config.workdir}"
    )
    if expected.disk.most > expected.free_bytes:
        yield "warning: the disk is too small; free space or choose another --workdir"


def _observer(plan: Plan) -> Iterable[str]:
    """Describe the observer, and warn of one of another side that the work folder has; nothing if no cell reads it."""
    observer, config = plan.observer, plan.config
    if not any(map(reads_observer, plan.runnable)):
        return
    identity = observer.identity(plan.train.content_hash, 0)
    found = any(record.identity == identity for record in observer_records(config.workdir))
    where = f"found in {config.workdir}" if found else "to be trained"
    yield plain(f"observer: {observer.arch}, {observer.image_size} px ({where})")
    if observer.image_size != config.image_size and "image_size" not in config.observer:
        yield (
            f"warning: the observer has {observer.image_size} px and the runs have {config.image_size}; "
            f"--observer image_size={config.image_size} trains another one"
        )


def _disk(disk: Disk) -> str:
    """Describe the bytes by part."""
    parts = [(disk.subsets, "new subsets"), (disk.labels, "soft labels"), (disk.observers, "observers")]
    parts += [(disk.making, "while a set is recovered"), (disk.holdout, "the two parts of the training set")]
    return ", ".join(f"{what} {format_bytes(count)}" for count, what in parts if count or what == "new subsets")


def _parts(bill: Bill) -> Iterable[str]:
    """Describe the time by part, the largest first; yield nothing if there is only one part."""
    parts = [(seconds, f"{protocol} trainings") for protocol, seconds in bill.trainings.items()]
    parts += [(seconds, f"{method} sets") for method, seconds in bill.sets.items()]
    parts += [(bill.observers, "observers")] if bill.observers else []
    if len(parts) > 1:
        parts.sort(key=lambda part: -part[0])
        yield "  of which " + ", ".join(f"{what} {_hours(seconds)}" for seconds, what in parts)


def _hours(seconds: float) -> str:
    """Format a duration; a long one in whole hours."""
    return f"{seconds / 3600:,.0f} h" if seconds >= LONG_SECONDS else format_seconds(seconds)


def _on_a_gpu(plan: Plan, todo: list[Cell], left: "list[tuple[ObserverConfig, int]]") -> Iterable[str]:
    """Describe the same work in GPU-hours, if the dry run is on a CPU and the work is large."""
    rates = rough_rates(plan, "cuda")
    bill = make_bill(plan, todo, rates, left)
    if plan.device == "cpu" and bill.seconds >= GPU_WORK_SECONDS:
        yield (
            f"on one GPU such as an A100 or RTX 4090, {rates.precision}: about {bill.seconds / 3600:,.0f} GPU-hours, "
            "accurate to a factor of 3"
        )
        yield from _parts(bill)
