"""Report the progress of a running sweep, with one line on stderr per cell."""

import time
from collections.abc import Sequence
from typing import Any

from fastdc.common.log import format_seconds, log_message, shows_progress
from fastdc.common.text import counted
from fastdc.sweep.plan import Cell
from fastdc.track import emit

QUIET_SECONDS = 20.0  # for shorter cells only the end is reported, not the start


class Meter:
    """Reporter of a sweep's progress: one line on stderr per cell, with the time left.

    The time left is the expected time of the remaining cells, scaled by a ratio: the time spent on ended cells over
    the time expected for them.

    Args:
        expected: expected seconds of each cell still to run, by its key.
        total: number of cells, including those that have a result.
    """

    def __init__(self, expected: dict[str, float], total: int) -> None:
        self._left, self._total = dict(expected), total
        self._enabled = shows_progress()
        self._ended = 0
        self._spent = self._expected = 0.0
        self._started: dict[str, tuple[float, int]] = {}  # start time, and number of cells trained together, by key
        self._workers = 1
        self._waited = False
        emit("sweep_started", cells=total, left=len(expected))

    def workers(self, count: int) -> None:
        """Set the number of workers that run cells side by side."""
        self._workers = max(count, 1)

    def start(self, cells: Sequence[Cell]) -> None:
        """Report the start of a cell, or of several that are trained together."""
        self._started |= {cell.key: (time.monotonic(), len(cells)) for cell in cells}
        for cell in cells:
            emit(
                "cell_started",
                cell=cell.name,
                key=cell.key,
                labels={**cell.label, "arch": cell.arch, "seed": cell.seed},
            )
            if self._left.get(cell.key, 0.0) >= QUIET_SECONDS:
                self._say(f"{cell.name}: started")

    def done(self, cell: Cell, summary: dict[str, Any], stored: bool) -> None:
        """Report a cell that has succeeded."""
        text = f"{summary['top1']:.2f} % top-1" if "top1" in summary else "done"
        if not stored:
            text += " (another sweep had taken it over and keeps its own result)"
        self._end(cell, text, "cell_done", **{name: value for name, value in summary.items() if name != "cost"})

    def fault(self, cell: Cell, outcome: str, reason: str) -> None:
        """Report a cell that has failed or diverged."""
        self._end(cell, f"{outcome}: {reason}", "cell_failed", outcome=outcome, reason=reason)

    def waiting(self, count: int) -> None:
        """Report, once, that nothing is left to start while other sweeps still run some of these cells."""
        if not self._waited:
            self._say(f"waiting for {counted(count, 'run')} of another sweep on this store")
        self._waited = True

    def _end(self, cell: Cell, text: str, event: str, **fields: Any) -> None:
        now = time.monotonic()
        started, together = self._started.pop(cell.key, (now, 1))
        seconds = (now - started) / together  # cells that are trained together share the time equally
        if self._ended == self._workers:
            self._spent = self._expected = 0.0  # forget the first cells, which include imports and compilation
        self._ended += 1
        self._spent += seconds
        self._expected += self._left.pop(cell.key, 0.0)
        left = self._seconds_left()
        # A summary's own seconds win: the store keeps them and every report shows them.
        emit(event, cell=cell.name, **{"seconds": round(seconds, 3), **fields, "seconds_left": left})
        time_left = "" if left is None else f", {format_seconds(left)} left"
        self._say(f"{cell.name}: {text} in {format_seconds(seconds)}{time_left}")

    def _seconds_left(self) -> float | None:
        if not self._left or not self._expected:
            return None
        left = sum(self._left.values()) * self._spent / self._expected
        return left / min(self._workers, len(self._left))

    def _say(self, text: str) -> None:
        # Once stderr cannot be written, stay silent: `log_message` returns False then.
        self._enabled = self._enabled and log_message(
            f"[{self._total - len(self._left)}/{self._total}] {text}", in_events=True
        )
