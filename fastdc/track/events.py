"""News of a running sweep: what began, how an epoch went, how a run ended.

An event is a plain dictionary that JSON can hold: `time` (seconds since 1970), `event` (its kind), `cell` (the run
that it is about), and what its kind adds:

* `sweep_started`: cells, left (how many of them have no result yet); `sweep_ended`: cells, ran, states
* `cell_started`: key, labels (method, ipc, protocol, arch, seed and the like)
* `epoch`: epoch (counted from 1), epochs, loss, lr, top1 (percent, None where not validated), images_per_second
* `cell_done`: top1, seconds and whatever else the result row holds; in a sweep seconds_left
* `cell_failed`: outcome (failed or diverged), reason, seconds; in a sweep seconds_left

The JSON log has two kinds more, which are about no cell: `message` (text) and `progress` (task, done, total, unit,
per_second, seconds_left, note, and images_per_second where images are trained on).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastdc.errors import DivergedError
from fastdc.progress import say

Event = dict[str, Any]
Listener = Callable[[Event], None]

_listeners: list[Listener] = []


def emit(event: str, **fields: Any) -> None:
    """Tell every listener; costs nothing where there is none."""
    if _listeners:
        publish({"time": time.time(), "event": event, **fields})


def publish(event: Event) -> None:
    """Hand on an event that was made elsewhere (by a worker process, say). A listener that fails hears no more."""
    for listener in tuple(_listeners):
        try:
            listener(event)
        except Exception as error:
            _listeners.remove(listener)
            say(f"warning: a listener failed and hears no more ({type(error).__name__}); no result is lost")


@contextmanager
def one_run(cell: str, key: str, labels: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Tell of a run outside a sweep: its begin, then how the block ended with what it put into the dictionary."""
    start, told = time.monotonic(), dict[str, Any]()
    emit("cell_started", cell=cell, key=key, labels=labels)
    try:
        yield told
    except Exception as error:
        outcome = "diverged" if isinstance(error, DivergedError) else "failed"
        seconds = round(time.monotonic() - start, 3)
        emit("cell_failed", cell=cell, outcome=outcome, reason=str(error), seconds=seconds)
        raise
    emit("cell_done", cell=cell, **{"seconds": round(time.monotonic() - start, 3), **told})


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """While the block runs, `listener` is called with every event of this process, in its order."""
    _listeners.append(listener)
    try:
        yield
    finally:
        if listener in _listeners:
            _listeners.remove(listener)
