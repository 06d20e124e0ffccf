"""Run a cell in a process of its own.

Three kinds of cells run this way. The last process of the first kind ended while they ran, by the cell or by a kill.
The second kind failed through a fault of the machine, and `--rerun` tries them again. The third is every cell once the
sweep's process has lost its GPU. Inside the sweep's process such a cell could end the whole sweep, time after time. A
child process that crashes costs only its own cell, and its exit code shows the cause.
"""

from collections.abc import Iterator
from contextlib import closing

from fastdc.common.log import log_message
from fastdc.sweep.cell_result import CellFailure
from fastdc.sweep.cell_runner import SubsetCosts
from fastdc.sweep.launch.child_process import ChildProcess
from fastdc.sweep.launch.plan_message import pickled
from fastdc.sweep.launch.workers import Ended, Event, Finished, Lost, Request
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.provenance import Watch


def run_in_own_process(plan: Plan, costs: SubsetCosts, cell: Cell) -> Iterator[Event]:
    """Run a cell in a child process and generate its events; a crash of the child is a failure of the cell.

    Raises:
        WorkerError: no such process could be started.
        Exception: an error that would end every other cell too, such as a full disk.
    """
    log_message(f"{cell.name}: runs in a process of its own")
    key = "" if cell.subset is None else cell.subset.key
    cost = costs.subset_cost(key)
    watch = Watch()
    with closing(ChildProcess(pickled(plan))) as child:
        child.await_start()
        child.send(Request((cell.key,), {} if cost is None else {key: cost}))
        for event in child.events():
            if not isinstance(event, Finished | Lost):
                yield event
            elif isinstance(event, Lost) or event.error is None:  # `Ended` has reported why it is lost
                return
            else:
                raise event.error
        reason = f"{child.exit_reason()} while it ran there alone; --rerun failed tries again"
    yield Ended(cell.key, CellFailure("failed", reason, "infrastructure", provenance=watch.record(cell)))
