"""The process that a tracker lives in: events come in as JSON lines, a line of JSON goes out when there is news.

What the library prints, hangs in, starts or leaves behind stays in here. Run as `python -m fastdc.track.child PARENT`,
where PARENT is the id of the process that sends events.
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
"""How long a process whose parent was killed may still take to write what it holds."""
LOOK_SECONDS = 2.0
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
    return {
        name: float(value) for name, value in found if isinstance(value, int | float) and not isinstance(value, bool)
    }


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


def watch_parent(parent: int, nowhere: int) -> None:
    """End this process some time after its parent is gone: nobody else would end a library that hangs then.

    faulthandler's timer does so where a library holds the interpreter's lock, while the parent lives too.

    Args:
        nowhere: a file descriptor for what faulthandler prints.
    """
    while os.getppid() == parent:
        faulthandler.dump_traceback_later(ORPHAN_SECONDS, exit=True, file=nowhere)
        time.sleep(LOOK_SECONDS)
    faulthandler.dump_traceback_later(ORPHAN_SECONDS + LOOK_SECONDS, exit=True, file=nowhere)
    time.sleep(ORPHAN_SECONDS)
    leave()


def leave() -> None:
    """End this process and what it has started, without exit hooks: in those too a library may hang."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def give_way() -> None:
    """Training comes first: for a CPU, and where memory runs out, this process is to go."""
    os.nice(10)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def main() -> None:
    """Give the real stdout to the answers and nothing to the library, then serve."""
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
