"""List the observers that cells need and that are not trained yet, by their records. Imports no torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.observe.record_needs import ObserverNeeds
from fastdc.sweep.cell_networks import observer_needs, reads_observer
from fastdc.sweep.plan import Cell, Plan

if TYPE_CHECKING:
    from fastdc.observe import Observation, ObserverConfig


def observers_left(plan: Plan, todo: Sequence[Cell]) -> list[tuple["ObserverConfig", int]]:
    """Return the observers that still have to be trained for these cells, each with its epochs over all its runs."""
    records = list(observer_records(plan.config.workdir))
    train_hash, extra = plan.train.content_hash, ObserverNeeds(weights=True)
    needs = observer_needs(cell for cell in todo if reads_observer(cell))
    own, *others = observers_of(plan, todo)
    found = [(own, _epochs_left(own, train_hash, needs, records))]
    found += [(observer, _epochs_left(observer, train_hash, extra, records)) for observer in others]
    return [(observer, epochs) for observer, epochs in found if epochs]


def observers_of(plan: Plan, todo: Sequence[Cell]) -> list["ObserverConfig"]:
    """Return the plan's observer, then those that are extra teachers of these cells."""
    extra = {t.identity: t.observer for cell in todo for t in cell.teachers if t.extra and t.observer is not None}
    return [plan.observer, *extra.values()]


def _epochs_left(
    observer: "ObserverConfig", train_hash: str, needs: ObserverNeeds, records: "Iterable[Observation]"
) -> int:
    schedule = observer.epochs
    if not needs.last_epoch(schedule):
        return 0
    runs = 1 if needs == ObserverNeeds(weights=True) else observer.runs  # a teacher takes the weights of run 0 only
    wanted = [observer.identity(train_hash, run) for run in range(runs)]
    left = dict.fromkeys(range(runs), needs.last_epoch(schedule))
    for record in records:
        if record.identity in wanted:
            missing = record.missing(needs, schedule)
            # TDDS's distances need every epoch from the first on, so epochs trained without them count for nothing.
            done = record.tdds_epochs if missing.tdds else record.epochs
            left[wanted.index(record.identity)] = max(0, missing.last_epoch(schedule) - done)
    return sum(left.values())


def observer_records(workdir: Path) -> Iterable["Observation"]:
    """Generate the records of all observer runs in a workdir, without torch."""
    from fastdc.observe import load_observation

    for folder in sorted(workdir.glob("observers/*")):
        record = load_observation(folder)
        if record is not None:
            yield record
