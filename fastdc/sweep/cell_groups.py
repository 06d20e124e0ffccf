"""Group cells that are trained at once: they share a stream of images, or on a GPU its idle time."""

from collections.abc import Sequence
from itertools import chain

from fastdc.common.errors import FastDCError
from fastdc.nn.overlap import MOST_TOGETHER, SMALL_SIDE, training_bytes
from fastdc.sweep.plan import Cell, Plan


def split_groups(plan: Plan, todo: Sequence[Cell], attempts: dict[str, int], workers: int = 1) -> list[list[Cell]]:
    """Split cells into groups that are trained at once; each group stands where its first cell stood.

    A cell that was started before and did not end gets its own group, at the end. It may make others fail.

    Args:
        plan: the sweep of the cells.
        todo: the cells.
        attempts: number of earlier starts by key, see `Store.attempts`.
        workers: workers that run groups; none should idle because others have groups of small images.
    """
    groups: dict[object, list[Cell]] = {}
    for cell in todo:
        if not attempts.get(cell.key):
            groups.setdefault(_group(plan, cell), []).append(cell)
    most = min(MOST_TOGETHER, max(len(todo) // max(workers, 1), 1))
    split = [_split(group, most) if overlaps_on_gpu(plan, group[0]) else [group] for group in groups.values()]
    return [*chain.from_iterable(split), *([cell] for cell in todo if attempts.get(cell.key))]


def _group(plan: Plan, cell: Cell) -> object:
    """Return what the cells of one group have in common, or the cell's own key if grouping does not pay."""
    # Networks compiled in one process would share torch's few compiled variants, and the last would run uncompiled.
    wanted = "never" if plan.config.compile else plan.config.together
    if cell.subset is None or wanted == "never":
        return cell.key
    if overlaps_on_gpu(plan, cell) and not cell.protocol.soft:
        # Seeds of one method: their sets are of one size, and mostly all can be made or none.
        return cell.subset.group, cell.protocol.name, cell.views
    pays = wanted == "always" or overlaps_on_gpu(plan, cell) or _decoding_counts(plan, cell)
    return _stream(cell) if pays else cell.key


def _stream(cell: Cell) -> object:
    """Return what the cells that can take their batches from one stream have in common."""
    assert cell.subset is not None
    # With order=shared or stored labels all seeds see the images in one order.
    return cell.subset.key, cell.protocol.name, cell.views, None if cell.protocol.shares_order else cell.seed


def by_stream(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Divide cells by the stream from which they can take their batches."""
    streams: dict[object, list[Cell]] = {}
    for cell in cells:
        streams.setdefault(_stream(cell), []).append(cell)
    return list(streams.values())


def overlaps_on_gpu(plan: Plan, cell: Cell) -> bool:
    """Return whether a GPU has time for other cells while it trains this one."""
    return plan.device == "cuda" and int(cell.label["image_size"]) <= SMALL_SIDE


def divide_by_memory(cells: Sequence[Cell], budget: int, parameters: int) -> list[list[Cell]]:
    """Divide cells of a group into parts whose trainings fit into a GPU's memory at once.

    Args:
        budget: bytes of the GPU that this process may use. The resident images of one set and of the validation set may
            take half of them; those of several sets are counted.
        parameters: of the largest network.
    """
    each = max(training_bytes(int(cell.label["batch"]), int(cell.label["image_size"]), parameters) for cell in cells)
    sets = {cell.subset.key: _image_bytes(cell) for cell in cells if cell.subset is not None}
    if len(sets) > 1:
        each += max(sets.values())
    return _parts(cells, max(budget // 2 // each, 1))


def _image_bytes(cell: Cell) -> int:
    assert cell.subset is not None
    return cell.subset.images * int(cell.label["image_size"]) ** 2 * 3


def _split(group: Sequence[Cell], most: int) -> list[list[Cell]]:
    """Divide a group into parts, with the cells of each stream in a row: then few parts need the same stream."""
    return _parts(list(chain.from_iterable(by_stream(group))), most)


def _parts(cells: Sequence[Cell], most: int) -> list[list[Cell]]:
    """Divide cells into as few parts of at most `most` cells as possible, of nearly equal sizes."""
    count = -(-len(cells) // most)
    return [list(cells[len(cells) * part // count : len(cells) * (part + 1) // count]) for part in range(count)]


def _decoding_counts(plan: Plan, cell: Cell) -> bool:
    """Return whether decoding may slow a training down: a GPU waits while every epoch decodes its images anew."""
    if plan.device == "cpu" or cell.subset is None or not cell.subset.path.exists():
        return False  # a subset still to be made is a small one
    from fastdc.loader import TrainView, choose_engine

    view = TrainView(plan.config.image_size)
    try:
        # Only "ffcv" decodes in every epoch; the other engines keep the decoded images.
        return choose_engine(cell.subset.path, view, plan.config.loader, plan.device) == "ffcv"
    except FastDCError:  # the run itself makes the subset again, or reports the fault
        return False
