"""Rules for lost workers and faults of the machine: what is tried again, how often, and in which process."""

from collections import Counter
from collections.abc import Iterable

from fastdc.sweep.cell_result import CellFailure
from fastdc.sweep.launch.workers import Need

MOST_TRIES = 3
"""Tries after which a lost worker, or a fault of the machine, fails a cell or one of its needs."""

MOST_MEMORY_TRIES = 2
"""Tries after which too little memory fails them, if the last one was the first work of its process."""


class Retries:
    """Record of what ended badly: cells, by their keys, and prerequisites of cells.

    Args:
        separate: whether workers are other processes; if not, nothing is tried again.

    Attributes:
        given_up: prerequisites that cannot be made; the cells that need one fail without another try.
        large: what ran out of memory, and is tried again in a new process only.
    """

    def __init__(self, separate: bool) -> None:
        self.given_up: dict[Need, CellFailure] = {}
        self.large: set[str | Need] = set()
        self._separate = separate
        self._tries: Counter[str | Need] = Counter()

    def may_try(self, what: str | Need, failure: CellFailure | None = None, clean: bool = False) -> bool:
        """Count a try that ended badly and return whether another is allowed.

        Args:
            failure: how it ended; None if its worker was lost.
            clean: whether it was the first work of its process.
        """
        self._tries[what] += 1
        short = failure is not None and failure.short_of_memory
        if not self._separate or self._tries[what] >= (MOST_MEMORY_TRIES if short and clean else MOST_TRIES):
            return False
        if short:
            self.large.add(what)
        return True

    def give_up(self, need: Need, failure: CellFailure) -> None:
        """Give up a prerequisite."""
        self.given_up[need] = failure
        self.large.discard(need)

    def need_new_process(self, work: Iterable[str | Need]) -> bool:
        """Return whether some of the work must be the first of its process."""
        return not self.large.isdisjoint(work)


def lost(reason: str) -> CellFailure:
    """Return the failure of a cell that lost its last worker; no process has run it, so its provenance is empty."""
    return CellFailure("failed", f"its worker was lost {MOST_TRIES} times: {reason}", "infrastructure", None, {})
