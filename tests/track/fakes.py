"""Trackers with faults that must not harm a sweep; their process imports them by name."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from fastdc.track.tracker import Tracker, Values


class Notes(Tracker):
    """Write every call as a line of `notes.txt`."""

    where = "notes.txt"

    def note(self, *words: object) -> None:
        with (self.folder / "notes.txt").open("a") as handle:
            print(*words, file=handle)

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        self.note("start", cell, key, labels)

    def log(self, cell: str, epoch: int, seconds: float, values: Values) -> None:
        self.note("log", cell, epoch, values)

    def finish(self, cell: str, state: str, values: Values) -> None:
        self.note("finish", cell, state, values)

    def close(self) -> None:
        self.note("close")


class Raising(Notes):
    """Fail with the key in the message, like a careless service."""

    def log(self, cell: str, epoch: int, seconds: float, values: Values) -> None:
        raise ConnectionError(f"https://joe:s3cret-word@host refused {os.environ['FAKE_API_KEY']}")


class Hanging(Notes):
    """Print to every stream, then hang."""

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        print("noise", flush=True)
        (self.folder / "pid").write_text(str(os.getpid()))
        time.sleep(600)


class Crashing(Notes):
    """Crash the process."""

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        os.abort()


class Exiting(Notes):
    """Call exit(), as some libraries do."""

    def __init__(self, folder: Path) -> None:
        raise SystemExit("no login")


class Chatting(Notes):
    """Write endlessly into inherited pipes."""

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        others = [number for number in range(3, 10) if is_pipe(number)]
        while True:
            for number in others:
                os.write(number, b"z" * 65536)


class Garbling(Notes):
    """Write a line into inherited pipes."""

    def finish(self, cell: str, state: str, values: Values) -> None:
        for number in filter(is_pipe, range(3, 10)):
            os.write(number, b"42\n")


class Forking(Notes):
    """Leave a process behind."""

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        if (child := os.fork()) == 0:
            time.sleep(600)
        (self.folder / "pid").write_text(str(child))


class Orphan(Hanging):
    """Hang, with little time after the end of the parent."""

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        sys.modules["__main__"].ORPHAN_SECONDS = 0.1  # type: ignore[attr-defined]
        super().start(cell, key, labels)


def is_pipe(number: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")
    except OSError:
        return False
