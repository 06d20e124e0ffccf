"""Run cells in the sweep's own process, one after the other, on its main thread, which signals interrupt."""

import time
from collections.abc import Iterator
from functools import partial

from fastdc.sweep.launch.cell_worker import CellWorker
from fastdc.sweep.launch.own_process import run_in_own_process
from fastdc.sweep.launch.workers import Event, Request, Started
from fastdc.sweep.plan import Plan
from fastdc.sweep.store.results import Store


class InProcess:
    """The one worker of this process; see `Workers`. It works while the scheduler waits for its events."""

    separate = False

    def __init__(self, plan: Plan, store: Store) -> None:
        self._worker = CellWorker(plan, store, partial(run_in_own_process, plan, store))
        self._pending: Iterator[Event] | None = None

    def capacity(self) -> int:
        """See `Workers`."""
        return 1

    def start(self) -> int:
        """See `Workers`."""
        self._pending = iter([Started(None)])
        return 1

    def send(self, worker: int, request: Request) -> None:
        """See `Workers`."""
        self._pending = self._worker.run(request)

    def wait(self, seconds: float) -> Iterator[tuple[int, Event]]:
        """See `Workers`. Each event is handled before the work goes on."""
        pending, self._pending = self._pending, None
        if pending is None:
            time.sleep(seconds)
        else:
            yield from ((1, event) for event in pending)

    def drop(self, worker: int) -> None:
        """See `Workers`. This process cannot be replaced: after a fault it goes on with the next cell."""
