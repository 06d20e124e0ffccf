"""Group cells that are trained at once, because they share one stream of decoded images."""

from collections.abc import Sequence

from fastdc.common.errors import FastDCError
from fastdc.sweep.plan import Cell, Plan


def split_groups(plan: Plan, todo: Sequence[Cell], attempts: dict[str, int]) -> list[list[Cell]]:
    """Split cells into groups that are trained at once; each group stands where its first cell stood.

    A cell that was started before and did not end gets its own group, at the end. It may make others fail.

    Args:
        plan: the sweep of the cells.
        todo: the cells.
        attempts: number of earlier starts by key, see `Store.attempts`.
    """
    groups: dict[object, list[Cell]] = {}
    for cell in todo:
        if not attempts.get(cell.key):
            groups.setdefault(_stream(plan, cell), []).append(cell)
    return [*groups.values(), *([cell] for cell in todo if attempts.get(cell.key))]


def _stream(plan: Plan, cell: Cell) -> object:
    """Return what the cells of one stream have in common, or the cell's own key if sharing does not pay."""
    # Networks compiled in one process would share torch's few compiled variants, and the last would run uncompiled.
    wanted = "never" if plan.config.compile else plan.config.together
    if cell.subset is None or wanted == "never" or (wanted == "auto" and not _decoding_counts(plan, cell)):
        return cell.key
    # With order=shared or stored labels all seeds see the images in one order, so they can share a stream.
    return cell.subset.key, cell.protocol.name, cell.views, None if cell.protocol.shares_order else cell.seed


def _decoding_counts(plan: Plan, cell: Cell) -> bool:
    """Return whether decoding may slow a training down: a GPU waits while every epoch decodes its images anew."""
    assert cell.subset is not None
    if plan.device == "cpu" or not cell.subset.path.exists():  # a subset still to be made is a small one
        return False
    from fastdc.loader import TrainView, choose_engine

    view = TrainView(plan.config.image_size)
    try:
        # Only "ffcv" decodes in every epoch; the other engines keep the decoded images.
        return choose_engine(cell.subset.path, view, plan.config.loader, plan.device) == "ffcv"
    except FastDCError:  # the run itself makes the subset again, or reports the fault
        return False
