"""Contenders with one behaviour each, run in the harness's processes."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.race import Outcome


class Toy:
    """Record each repetition in a file, and take `seconds` divided by the workers."""

    def __init__(self, name: str, diary: str, seconds: float = 0.0, best: int = 0) -> None:
        self._name, self._diary, self._seconds, self._best = name, Path(diary), seconds, best
        self._workers = 1

    def prepare(self, workers: int) -> None:
        self._workers = workers

    def repeat(self, share: float) -> Outcome:
        print("a library that prints to stdout must not disturb the pipe")
        with self._diary.open("a") as diary:
            diary.write(f"{self._name} {share:g} {self._workers}\n")
        slow = 1 + abs(self._workers - self._best) if self._best else 1
        return Outcome(10 * share, seconds=self._seconds * share * slow, facts=lambda: {"name": self._name})

    def check(self) -> dict[str, Any]:
        return {"checked": True}


class Wrong(Toy):
    """Return a wrong result."""

    def check(self) -> dict[str, Any]:
        return {"error": "2 of 10 are wrong"}


class Failing(Toy):
    """Raise at the first repetition."""

    def repeat(self, share: float) -> Outcome:
        raise ValueError("no such thing")


class Dying(Toy):
    """End the process without an answer through the pipe."""

    def repeat(self, share: float) -> Outcome:
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)


class Hanging(Toy):
    """Never answer, and start a child that never ends; the diary has its process id."""

    def repeat(self, share: float) -> Outcome:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self._diary.write_text(str(child.pid))
        time.sleep(600)
        raise AssertionError("not reached")


class Busy(Toy):
    """Use `seconds` of CPU time and hold 64 MB; a child holds as much."""

    def repeat(self, share: float) -> Outcome:
        held = bytearray(64 << 20)
        code = "import sys, time\nheld = bytearray(64 << 20)\ntime.sleep(float(sys.argv[1]))"
        child = subprocess.Popen([sys.executable, "-c", code, str(self._seconds)])
        end = time.process_time() + self._seconds
        while time.process_time() < end:
            pass
        child.wait()
        return Outcome(len(held))
