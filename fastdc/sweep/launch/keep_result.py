"""Store how a cell ended, and report it."""

import shutil

from fastdc.sweep.cell_result import CellFailure, CellResult, failure_of
from fastdc.sweep.plan import Cell
from fastdc.sweep.store.lease import Lease
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_progress import Meter


def keep_result(cell: Cell, lease: Lease, result: CellResult | CellFailure, store: Store, meter: Meter) -> bool:
    """Store how a cell ended under its lease; return whether it succeeded."""
    if isinstance(result, CellResult):
        try:
            stored = store.finish(
                lease, "done", summary=result.summary, detail=result.detail, provenance=result.provenance
            )
        except ValueError as error:  # the result holds NaN or infinity
            failure = failure_of(error)._replace(provenance=result.provenance)
            return keep_result(cell, lease, failure, store, meter)
        if result.leftover is not None:
            shutil.rmtree(result.leftover, ignore_errors=True)
        meter.done(cell, result.summary, stored)
        return True
    reason, trace, failed = result.reason, result.trace, result.failure
    store.finish(lease, result.outcome, reason=reason, trace=trace, failure=failed, provenance=result.provenance)
    meter.fault(cell, result.outcome, reason + ("; its earlier result is kept" if lease.redo else ""))
    return False
