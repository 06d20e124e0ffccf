"""What cells need besides their own training: the observer and other networks, each trained once for all of them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastdc.observe.needs import ObserverNeeds
from fastdc.sweep.plan import Cell

if TYPE_CHECKING:
    from fastdc.observe.teacher_plan import TeacherPlan

OBSERVER = "observer"


def reads_observer(cell: Cell) -> bool:
    """Whether the cell's method reads training dynamics, or runs the observer as a teacher, or its labels do."""
    return OBSERVER in networks_of(cell)


def network_key(teacher: "TeacherPlan") -> str | None:
    """Name of the training that a teacher comes from; None for one that comes trained."""
    if teacher.observer is None:
        return None
    return OBSERVER if teacher.is_observer else teacher.identity


def networks_of(cell: Cell) -> list[str]:
    """The trainings, by `network_key`, whose networks or records a cell needs besides its own."""
    observed = cell.subset is not None and cell.subset.variant.observed
    keys = [OBSERVER] if observed else []
    return list(dict.fromkeys(keys + [key for teacher in cell.teachers if (key := network_key(teacher)) is not None]))


def observer_needs(cells: Iterable[Cell]) -> ObserverNeeds:
    """What all `cells` read of the observer: their methods its record, teachers its weights."""
    cells = list(cells)
    needs = ObserverNeeds(weights=any(teacher.is_observer for cell in cells for teacher in cell.teachers))
    for variant in {id(cell.subset.variant): cell.subset.variant for cell in cells if cell.subset is not None}.values():
        if variant.observed:
            needs |= variant.method.observer_needs(variant.config)
    return needs
