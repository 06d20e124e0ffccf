"""Run commands of fastdc in this process as a shell would: by `python -m fastdc`, its public door.

For a process of its own only: a command sets signal handlers.
"""

import io
import os
import runpy
import signal
import sqlite3
import sys
import threading
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

POLL_SECONDS, AGAIN_SECONDS = 0.02, 20.0


class Ran(NamedTuple):
    """The outcome of a command."""

    code: int
    out: str
    err: str


def run(*arguments: str | Path) -> Ran:
    """Run one command and return its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["fastdc", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = _code_of_module()
    return Ran(code, out.getvalue(), err.getvalue())


def _code_of_module() -> int:
    try:
        runpy.run_module("fastdc", run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def done(*arguments: str | Path) -> str:
    """Run a command that has to succeed and return its standard output."""
    ran = run(*arguments)
    assert ran.code == 0, ran
    return ran.out


def plan_only(grid: Path, store: Path) -> int:
    """Start a sweep, interrupt it as Ctrl-C does once its runs are in the store, and return its exit code."""
    ended = threading.Event()
    watcher = threading.Thread(target=_interrupt_when_planned, args=(store, ended))
    watcher.start()
    try:
        return run("sweep", grid, "--quiet").code
    finally:
        ended.set()
        watcher.join()


def _interrupt_when_planned(store: Path, ended: threading.Event) -> None:
    wait = POLL_SECONDS
    while not ended.wait(wait):
        with suppress(sqlite3.OperationalError):  # locked for a moment
            if rows(store, "SELECT key FROM runs"):
                os.kill(os.getpid(), signal.SIGINT)
                wait = AGAIN_SECONDS


def rows(store: Path, query: str) -> list[tuple[str, ...]]:
    """Read from a store with nothing of fastdc; of one that is not there yet, nothing."""
    if not store.exists():
        return []
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()
