"""List the networks that cells need besides their own: the observer and teachers, each trained once for all cells."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastdc.observe.record_needs import ObserverNeeds
from fastdc.sweep.plan import Cell
from fastdc.sweep.plan_checks import Variant

if TYPE_CHECKING:
    from fastdc.teachers.plan import TeacherPlan

OBSERVER = "observer"


def reads_observer(cell: Cell) -> bool:
    """Return whether the cell needs the observer, as its method's record, its method's teacher or its label teacher."""
    return OBSERVER in networks_of(cell)


def network_key(teacher: "TeacherPlan") -> str | None:
    """Return the name of the training that a teacher comes from; None for a teacher that comes trained."""
    if teacher.observer is None:
        return None
    return OBSERVER if teacher.is_observer else teacher.identity


def networks_of(cell: Cell) -> list[str]:
    """Return the trainings, by `network_key`, whose networks or records a cell needs besides its own."""
    observed = cell.subset is not None and cell.subset.variant.observed
    keys = [OBSERVER] if observed else []
    return list(dict.fromkeys(keys + [key for teacher in cell.teachers if (key := network_key(teacher)) is not None]))


def observer_needs(cells: Iterable[Cell]) -> ObserverNeeds:
    """Return what all `cells` need of the observer: methods read its record, teachers take its weights."""
    cells = list(cells)
    needs = ObserverNeeds(weights=any(teacher.is_observer for cell in cells for teacher in cell.teachers))
    # By id: a variant cannot be hashed, and cells of one method share the object.
    for variant in {id(cell.subset.variant): cell.subset.variant for cell in cells if cell.subset is not None}.values():
        if isinstance(variant, Variant) and variant.observed:
            needs |= variant.method.observer_needs(variant.config)
    return needs
