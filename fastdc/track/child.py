"""The process that a tracker lives in: events come in as JSON lines, a line of JSON goes out when there is news.

What the library prints, hangs in, starts or leaves behind stays in here. Run as `python -m fastdc.track.child`.
"""

import json
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from fastdc.track.events import Event
from fastdc.track.tracker import Tracker, Values, make_tracker

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
SHORTEST_SECRET = 4
ORPHAN_SECONDS = 60.0
EPOCH_VALUES = ("loss", "lr", "top1", "images_per_second")


class Runs:
    """Hands events on to a tracker, run by run.

    Args:
        tracker: what keeps them.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._open: set[str] = set()

    def take(self, event: Event) -> None:
        """Pass one event on; kinds that say nothing of a run, and runs that never began, are passed over."""
        kind, cell = event["event"], event.get("cell")
        if kind == "cell_started":
            if cell in self._open:  # its worker was lost, it starts over
                self.tracker.finish(cell, "interrupted", {})
            self._open.add(event["cell"])
            self.tracker.start(event["cell"], event["key"], event["labels"])
        elif cell not in self._open:
            return
        elif kind == "epoch":
            self.tracker.log(cell, event["epoch"], event["time"], _numbers(event, EPOCH_VALUES))
        elif kind in ("cell_done", "cell_failed"):
            self._open.discard(cell)
            names = [name for name in event if name not in ("time", "event", "cell", "seconds_left")]
            self.tracker.finish(cell, event.get("outcome", "done"), _numbers(event, names))

    def close(self) -> None:
        """End what is still open, then the tracker."""
        for cell in sorted(self._open):
            self.tracker.finish(cell, "interrupted", {})
        self._open.clear()
        self.tracker.close()


def _numbers(event: Event, names: Iterable[str]) -> Values:
    found = [(name, event.get(name)) for name in names]
    return {name: float(value) for name, value in found if isinstance(value, int | float) and value is not True}


def serve(source: IO[str], answer: IO[str], environment: Mapping[str, str]) -> None:
    """Take a line that says which tracker, then events until the input ends; answers where they are kept, or an error.

    Args:
        source: JSON lines, the first with `target` and `folder`.
        answer: JSON lines for the parent.
        environment: whose secrets must not appear in an error.
    """

    def say(**fields: Any) -> None:
        print(json.dumps(fields), file=answer, flush=True)

    try:
        setup = json.loads(source.readline())
        runs = Runs(make_tracker(setup["target"], Path(setup["folder"])))
        say(where=runs.tracker.where)
        for line in source:
            runs.take(json.loads(line))
        _end_when_left_alone()
        runs.close()
        say(closed=True)
    except BaseException as error:  # SystemExit too: libraries call exit()
        say(error=redacted(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", environment))


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """Text without passwords in addresses and without the values of variables such as WANDB_API_KEY."""
    for name, value in environment.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    return re.sub(r"://[^/\s@]+@", "://***@", text)


def _end_when_left_alone() -> None:
    """With its input closed the parent waits a while, or is gone: nobody else would end a library that hangs now."""
    timer = threading.Timer(ORPHAN_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()


def main() -> None:
    """Give the real stdout to the answers and nothing to the library, then serve."""
    answer = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    serve(sys.stdin, answer, os.environ)
    os._exit(0)  # exit hooks of a library are one more place to hang in


if __name__ == "__main__":
    main()
