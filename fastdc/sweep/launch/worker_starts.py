"""Start workers as there is room and work for them, and give up if none can start."""

import time

from fastdc.common.errors import WorkerError
from fastdc.common.log import log_message, shows_progress
from fastdc.sweep.launch.workers import Workers

MOST_FAILED_STARTS = 3
"""Number of workers that fail to start in a row, with none at work, after which the sweep ends."""

FORGET_SECONDS = 600.0
"""Time after which a place where no worker could start is tried again."""

SLOW_START_SECONDS = 60.0


class WorkerStarts:
    """Record of the workers that are starting or idle, and of the starts that failed.

    Attributes:
        idle: numbers of the workers without a request.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.idle: list[int] = []
        self._starting: set[int] = set()
        self._failed: list[float] = []  # times, by time.monotonic
        self._failed_in_a_row = 0
        self._none_since = time.monotonic()

    def restart_clock(self) -> None:
        """Count the time without a worker from now on."""
        self._none_since = time.monotonic()

    def start(self, queued: int, busy: int) -> int:
        """Start as many workers as can exist and the cells can use; return how many should exist.

        Args:
            queued: number of groups of cells that wait.
            busy: number of workers with a request.
        """
        now = time.monotonic()
        capacity = self._workers.capacity()
        if busy or self.idle:  # do not retry a host that can start no worker without a pause
            capacity -= sum(now - when < FORGET_SECONDS for when in self._failed)
            self._none_since = now
        elif self._failed_in_a_row >= MOST_FAILED_STARTS:
            capacity = 0  # the sweep ends unless one of the workers now starting succeeds
        wanted = min(capacity, queued + busy)
        for _ in range(wanted - len(self._starting) - len(self.idle) - busy):
            self._starting.add(self._workers.start())
        if now - self._none_since > SLOW_START_SECONDS:
            self._none_since = now
            log_if_shown("still waiting for a worker: none has started; there may be no room, or other work holds it")
        return wanted

    def started(self, worker: int, problem: str | None, busy: int) -> None:
        """Add a worker that is ready, or count one that could not start.

        Raises:
            WorkerError: no worker can be started.
        """
        self._starting.discard(worker)
        if problem is None:
            self.idle.append(worker)
            self._failed_in_a_row = 0
            return
        self._workers.drop(worker)
        self._failed.append(time.monotonic())
        # Failures next to working workers do not count: the limit is for a sweep that can start none at all.
        self._failed_in_a_row = 0 if busy or self.idle else self._failed_in_a_row + 1
        if self._failed_in_a_row >= MOST_FAILED_STARTS and not self._starting:
            raise WorkerError(f"{self._failed_in_a_row} workers could not be started: {problem}")
        log_if_shown(f"a worker could not be started: {problem}")

    def replace_idle(self) -> None:
        """End the idle workers, so that new ones start in their place, unless one is starting already."""
        while self.idle and not self._starting:
            self._workers.drop(self.idle.pop())

    def lost(self, worker: int, reason: str, busy: int) -> None:
        """Remove a lost worker that had no request."""
        if worker in self.idle:
            self.idle.remove(worker)
            self._workers.drop(worker)
        elif worker in self._starting:
            self.started(worker, reason, busy)


def log_if_shown(text: str) -> None:
    """Write a message, unless progress is hidden."""
    if shows_progress():
        log_message(text)
