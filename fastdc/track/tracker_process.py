"""Run a tracker in its own process, which reads events as JSON lines and answers in JSON lines.

Output, hangs, child processes and leftovers of the tracker's library stay inside this process. It runs as
`python -m fastdc.track.tracker_process PARENT`, where PARENT is the id of the process that sends events.
"""

import faulthandler
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from fastdc.track.events import Event
from fastdc.track.tracker import Tracker, Values, make_tracker

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
SHORTEST_SECRET = 4
ORPHAN_SECONDS = 60.0
"""Time that this process has left to write pending events after its parent was killed."""
LOOK_SECONDS = 2.0
EPOCH_VALUES = ("loss", "lr", "top1", "images_per_second")


class Runs:
    """Adapter that turns events into calls of a tracker, run by run.

    Args:
        tracker: receives the runs.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._open: set[str] = set()

    def take(self, event: Event) -> None:
        """Pass one event on; ignore kinds that are not about a run, and runs that never started."""
        kind, cell = event["event"], event.get("cell")
        if kind == "cell_started":
            if cell in self._open:  # its worker was lost, and it starts over
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
        """Finish open runs as interrupted, then close the tracker."""
        for cell in sorted(self._open):
            self.tracker.finish(cell, "interrupted", {})
        self._open.clear()
        self.tracker.close()


def _numbers(event: Event, names: Iterable[str]) -> Values:
    """Return the named fields of an event that are numbers; a bool, although an int in Python, is none."""
    found = [(name, event.get(name)) for name in names]
    return {
        name: float(value) for name, value in found if isinstance(value, int | float) and not isinstance(value, bool)
    }


def serve(source: IO[str], answer: IO[str], environment: Mapping[str, str]) -> None:
    """Create the tracker that the first line names, then pass events on until the input ends.

    Answers with the place of the curves once the tracker exists, with `closed` at the end, or with an error.

    Args:
        source: JSON lines, the first with `target` and `folder`.
        answer: receives JSON lines for the parent.
        environment: variables whose secrets must not appear in an error.
    """

    def reply(**fields: Any) -> None:
        print(json.dumps(fields), file=answer, flush=True)

    try:
        setup = json.loads(source.readline())
        runs = Runs(make_tracker(setup["target"], Path(setup["folder"])))
        reply(where=runs.tracker.where)
        for line in source:
            runs.take(json.loads(line))
        runs.close()
        reply(closed=True)
    except BaseException as error:  # SystemExit too: libraries call exit()
        reply(error=redacted(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", environment))


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """Remove passwords in addresses, and the values of variables such as WANDB_API_KEY, from a text."""
    for name, value in environment.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    return re.sub(r"://[^/\s@]+@", "://***@", text)


def watch_parent(parent: int, nowhere: int) -> None:
    """Exit this process `ORPHAN_SECONDS` after its parent is gone, because a library may hang then.

    A library that holds the interpreter's lock blocks this thread as well. faulthandler's timer needs no lock and exits
    then, also while the parent lives.

    Args:
        parent: process id of the parent.
        nowhere: file descriptor for the output of faulthandler.
    """
    while os.getppid() == parent:  # an orphan gets another parent
        # Every round restarts the timer, so it expires only if this thread cannot run.
        faulthandler.dump_traceback_later(ORPHAN_SECONDS, exit=True, file=nowhere)
        time.sleep(LOOK_SECONDS)
    faulthandler.dump_traceback_later(ORPHAN_SECONDS + LOOK_SECONDS, exit=True, file=nowhere)
    time.sleep(ORPHAN_SECONDS)
    leave()


def leave() -> None:
    """Kill this process and those that it started, without exit hooks, in which a library may hang."""
    if os.getpgrp() == os.getpid():  # otherwise the group is the caller's, and stays
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def give_way() -> None:
    """Give training priority: lower this process's CPU priority, and offer it first when memory runs out."""
    os.nice(10)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def main() -> None:
    """Serve the tracker, with stdout reserved for answers and a library's own output discarded."""
    give_way()
    answer = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    threading.Thread(target=watch_parent, args=(int(sys.argv[1]), nowhere), daemon=True).start()
    serve(sys.stdin, answer, os.environ)
    leave()


if __name__ == "__main__":
    main()
