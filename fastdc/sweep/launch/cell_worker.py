"""Run cells as a worker, in the calling process: one request after the other, answered by events."""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from fastdc.common.errors import MethodError, WorkerError
from fastdc.common.gpu_share import own_gpu_budget
from fastdc.common.log import log_message
from fastdc.sweep.cell_groups import divide_by_memory, overlaps_on_gpu
from fastdc.sweep.cell_result import CellFailure, CellResult, failure_of
from fastdc.sweep.cell_runner import CellRunner, SubsetCosts
from fastdc.sweep.failures import ends_sweep, is_short_of_memory, loses_device
from fastdc.sweep.launch.workers import Ended, Event, Finished, Lost, Made, Need, Request
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.provenance import Watch

Done = TypeVar("Done")


def release_memory() -> bool:
    """Free the GPU memory that this process keeps for later cells; return whether its GPU works.

    After a fault the GPU frees little before the process ends.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    from fastdc.loader.engines.device import forget_images

    forget_images()
    gc.collect()
    try:
        if torch.cuda.memory_reserved():  # else this would be the first use of the GPU, and take memory
            torch.cuda.synchronize()  # a fault shows here, even one that was taken for too little memory
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


class CellWorker:
    """Worker that runs the cells of one plan. Imports, kernels and open betons stay in memory between requests.

    Args:
        plan: the checked sweep.
        costs: record of what subsets cost.
        isolate: runs a cell in a process of its own, and raises `WorkerError` if none can be started. A cell that may
            have ended an earlier process runs that way, the cell after one that ran out of memory, and every cell once
            this process has lost its GPU. None runs everything here, until this process has lost its GPU or ran out of
            memory.
    """

    def __init__(
        self, plan: Plan, costs: SubsetCosts, isolate: Callable[[Cell], Iterator[Event]] | None = None
    ) -> None:
        self._runner, self._isolate = CellRunner(plan, costs), isolate
        self._cells = {cell.key: cell for cell in plan.runnable}
        self._subsets = {cell.subset.key: cell.subset for cell in plan.runnable if cell.subset is not None}
        self._lost_device = self._short_of_memory = False

    def run(self, request: Request) -> Iterator[Event]:
        """Make the prerequisites of a request and train its cells; generate events, of which `Finished` is the last.

        The last one is `Lost` if nothing more can run in this process and it cannot start another one.
        """
        cells = [self._cells[key] for key in request.cells]
        try:
            for need in request.making:
                if self._end is None:
                    failure = self._attempt(partial(self._make, need))
                    yield Made(failure, ends=self._end is not None)
            yield from self._train(cells, request)
            yield Finished() if self._end is None else Lost(self._end)
        except Exception as error:
            if not ends_sweep(error):
                raise
            yield Finished(error)

    def _make(self, need: Need) -> None:
        kind, key = need
        if kind == "network":
            try:
                self._runner.make_network(key)
            except MethodError as error:  # the cells that need the network raise it again when they run
                if is_short_of_memory(error) or loses_device(error):
                    raise
        else:
            self._runner.make_subset(self._subsets[key])

    def _attempt(self, work: Callable[[], Done]) -> Done | CellFailure:
        """Do some work and return its result, or how it failed; raise an error that ends the sweep."""
        try:
            return work()
        except Exception as error:
            if ends_sweep(error):
                raise
            self._lost_device |= loses_device(error)
            self._short_of_memory = is_short_of_memory(error)
            return failure_of(error)

    def _train(self, cells: Sequence[Cell], request: Request) -> Iterator[Event]:
        """Train cells at once where that is possible, and the others one by one."""
        group = self._with_sets([cell for cell in cells if not self._is_unsafe(cell, request)])
        results: dict[str, CellResult | CellFailure] = {}
        for part in self._parts(group):
            if self._end is not None or self._is_unsafe(part[0], request):  # an earlier part failed
                break
            watch = Watch()
            ended = self._train_together(part)
            results |= ended
            for key, result in ended.items():
                yield Ended(key, result._replace(provenance=watch.record(self._cells[key], len(part))))
        for cell in cells:
            if cell.key not in results and self._end is None:
                yield from self._train_one(cell, request)

    @property
    def _end(self) -> str | None:
        """Return why only another worker can go on; None if this one can."""
        if self._isolate is not None:
            return None
        return "its GPU failed" if self._lost_device else "it ran out of memory" if self._short_of_memory else None

    def _with_sets(self, cells: Sequence[Cell]) -> Sequence[Cell]:
        """Return those of several cells whose sets can be made; the others must not end the training of a group."""
        if len(cells) < 2:
            return cells
        sets = {cell.subset.key: cell.subset for cell in cells if cell.subset is not None}
        failed = set()
        for key, subset in sets.items():
            if self._lost_device or self._short_of_memory:
                break
            if isinstance(self._attempt(partial(self._runner.make_subset, subset)), CellFailure):
                failed.add(key)
        return [cell for cell in cells if cell.subset is not None and cell.subset.key not in failed]

    def _parts(self, group: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        """Return the cells of a group to train at once: all, or on a GPU those that its memory holds."""
        if len(group) < 2 or self._end is not None:
            return []
        if not overlaps_on_gpu(self._runner.plan, group[0]):
            return [group]
        parts = self._attempt(lambda: divide_by_memory(group, own_gpu_budget(), self._most_parameters(group)))
        return [] if isinstance(parts, CellFailure) else [part for part in parts if len(part) > 1]

    def _most_parameters(self, group: Sequence[Cell]) -> int:
        from fastdc.nn.models import count_parameters

        classes, side = len(self._runner.plan.train.classes), self._runner.plan.config.image_size
        return max(count_parameters(arch, classes, side) for arch in {cell.arch for cell in group})

    def _train_together(self, cells: Sequence[Cell]) -> dict[str, CellResult | CellFailure]:
        """Train cells at once and return how each ended, by key; return nothing if that fails."""
        found = self._attempt(lambda: self._runner.run_together(cells))
        if isinstance(found, CellFailure):
            reason = found.reason.partition(";")[0]
            log_message(f"{len(cells)} runs could not be trained together ({reason}); one by one now")
            return {}
        ended = [failure_of(each) if isinstance(each, Exception) else each for each in found]
        return {cell.key: result for cell, result in zip(cells, ended, strict=True)}

    def _train_one(self, cell: Cell, request: Request) -> Iterator[Event]:
        if self._isolate is not None and self._is_unsafe(cell, request):
            try:
                self._short_of_memory = False
                self._runner.forget_teacher()
                self._lost_device |= not release_memory()  # or the new process would not find what this one holds
                yield from self._isolate(cell)
                return
            except WorkerError as error:
                log_message(f"{cell.name}: runs here, for a process of its own could not be started ({error})")
        watch = Watch()
        result = self._attempt(lambda: self._runner.run(cell))
        yield Ended(cell.key, result._replace(provenance=watch.record(cell)))

    def _is_unsafe(self, cell: Cell, request: Request) -> bool:
        """Return whether the cell may not run in this process, for the process's sake or for the cell's."""
        unsafe = self._lost_device or self._short_of_memory or cell.key in request.after_crash
        return self._isolate is not None and unsafe
