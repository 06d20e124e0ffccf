"""A tracker around another one, for the suite of trackers: it keeps every call, and fails or hangs where it should.

`fastdc.track.tracker_process` makes trackers from a class and a folder alone, so the inner one is named by the
environment.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from fastdc.track.tracker import Tracker, Values, make_tracker

INNER, FAULT = "FASTDC_CHECK_TRACKER", "FASTDC_CHECK_FAULT"
"""Variables that name the tracker inside as `module:class`, and what happens at its first epoch: fail or hang."""
CALLS, PROCESS = "calls.jsonl", "pid"
HANG_SECONDS = 600.0


class Recorded(Tracker):
    """Tracker that notes each call once the tracker inside has returned."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROCESS).write_text(str(os.getpid()))
        self.inner = make_tracker(os.environ[INNER], folder)
        self.where = self.inner.where

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        self.inner.start(cell, key, labels)
        self._note("start", cell)

    def log(self, cell: str, epoch: int, seconds: float, values: Values) -> None:
        if os.environ.get(FAULT) == "fail":
            raise RuntimeError("a fault of the suite")
        if os.environ.get(FAULT) == "hang":
            self._note("hang", cell)
            time.sleep(HANG_SECONDS)
        self.inner.log(cell, epoch, seconds, values)
        self._note("log", cell, epoch)

    def finish(self, cell: str, state: str, values: Values) -> None:
        self.inner.finish(cell, state, values)
        self._note("finish", cell, state)

    def close(self) -> None:
        self.inner.close()
        self._note("close")

    def _note(self, *words: object) -> None:
        with (self.folder / CALLS).open("a") as handle:
            print(json.dumps(words), file=handle)
