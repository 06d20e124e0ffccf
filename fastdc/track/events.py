"""Publish events of a running sweep: the start of a run, its epochs, and its end.

An event is a plain dictionary of JSON values: `time` (seconds since 1970), `event` (its kind), `cell` (the run that it
is about, if any), and the fields of its kind:

* `sweep_started`: cells, left (how many of them are still to run); `sweep_ended`: cells, ran, states
* `cell_started`: key, labels (method, ipc, protocol, arch, seed and the like)
* `epoch`: epoch (counted from 1), epochs, loss, lr, top1 (percent, None where not validated), images_per_second
* `cell_done`: top1, seconds and the other values of the result row; in a sweep seconds_left
* `cell_failed`: outcome (failed or diverged), reason, seconds; in a sweep seconds_left

The JSON log has two more kinds, without a cell: `message` (text) and `progress` (task, done, total, unit, per_second,
seconds_left, note, and images_per_second where images are trained on).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastdc.common.errors import DivergedError
from fastdc.common.log import log_message

Event = dict[str, Any]
Listener = Callable[[Event], None]

_listeners: list[Listener] = []


def emit(event: str, **fields: Any) -> None:
    """Create an event and publish it; without listeners this costs nothing."""
    if _listeners:
        publish({"time": time.time(), "event": event, **fields})


def publish(event: Event) -> None:
    """Pass an event, made here or in a worker process, to every listener.

    A listener that raises is removed, with a warning.
    """
    for listener in tuple(_listeners):  # a copy, because the loop may remove a listener
        try:
            listener(event)
        except Exception as error:
            _listeners.remove(listener)
            log_message(
                f"warning: a listener failed and receives no more events ({type(error).__name__}); no result is lost"
            )


@contextmanager
def one_run(cell: str, key: str, labels: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Publish the events of a run outside a sweep: its start, and how the block ended.

    Yields:
        A dictionary whose items become fields of `cell_done`.
    """
    start, values = time.monotonic(), dict[str, Any]()
    emit("cell_started", cell=cell, key=key, labels=labels)
    try:
        yield values
    except Exception as error:
        outcome = "diverged" if isinstance(error, DivergedError) else "failed"
        seconds = round(time.monotonic() - start, 3)
        emit("cell_failed", cell=cell, outcome=outcome, reason=str(error), seconds=seconds)
        raise
    emit("cell_done", cell=cell, **{"seconds": round(time.monotonic() - start, 3), **values})


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` with every event of this process, in order, while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        if listener in _listeners:  # `publish` removes one that fails
            _listeners.remove(listener)
