"""A cell in a process of its own: for one whose last process died while it ran, be it by the cell or by a kill, for
one that the machine failed and `--rerun` tries again, and for all where the sweep's process has lost its GPU.

In the sweep's process it might take the sweep down again, and again. A child that dies costs that cell alone, and this
process sees by what. `python -m fastdc.sweep.alone` is the child; it ends when the sweep's process is gone.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fastdc.progress import say
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.provenance import Watch
from fastdc.sweep.run import POLL_SECONDS, CellFailure, CellResult
from fastdc.sweep.store import Store
from fastdc.sweep.worker import Answer, CellWorker, Home, Told, this_fastdc
from fastdc.track.events import publish

DEATH_SECONDS = 20.0
"""How long a process that has let go of its end of the pipe may take to end by itself."""
OUT_OF_MEMORY = (-signal.SIGKILL, 128 + signal.SIGKILL)


class Alone:
    """Runs cells of `plan` one after the other, each in a process of its own."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store

    def __call__(self, cell: Cell) -> CellResult | CellFailure | None:
        """How the cell ended; None where there can be no such process.

        Raises:
            Exception: what would end every other cell too (a full disk).
        """
        say(f"{cell.name}: runs in a process of its own")
        key = None if cell.subset is None else cell.subset.key
        cost = None if key is None else self._store.subset_cost(key)
        costs = {key: cost} if key is not None and cost is not None else {}
        watch = Watch()
        problem, answer, code = _ask((self._plan, Path.cwd(), cell.key, costs))
        if problem is not None:
            say(f"{cell.name}: runs here, for a process of its own could not be started ({problem})")
            return None
        if answer is None:
            text = f"{_death(code)} while it ran there alone; --rerun failed tries again"
            return CellFailure("failed", text, "infrastructure", provenance=watch.told(cell))
        for line in answer.said.splitlines():
            say(line)
        for made, (label, seconds) in answer.costs.items():
            self._store.keep_subset_cost(made, label, seconds)
        if answer.ends is not None:
            raise answer.ends
        return answer.results[0] if answer.results else answer.failure


def _ask(request: tuple[Any, ...]) -> tuple[str | None, Answer | None, int]:
    """Why the child could not begin, its answer, its exit code; neither of the first two where it died at work."""
    try:
        wanted = pickle.dumps(request)
    except Exception as error:  # a plug-in's method may be of any kind
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", None, 0
    ours, its = Pipe()
    with ours:
        try:
            with its:
                child = _start(its.fileno())
        except OSError as error:
            return str(error.strerror or error), None, 0
        problem: str | None = "it ended while it started"
        answer = None
        try:
            with suppress(EOFError, OSError):
                ours.send_bytes(wanted)
                problem = _receive(ours, child)
                if problem is None:
                    answer = _hear(ours, child)
            if answer is None and problem is None:  # it died at work
                with suppress(subprocess.TimeoutExpired):
                    child.wait(DEATH_SECONDS)
        finally:
            child.kill()
            child.wait()
    return problem, answer, child.returncode


def _start(connection: int) -> "subprocess.Popen[bytes]":
    """The child, which is given one end of the pipe; modules come from where ours do, not from the current folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    # A session of its own, for Ctrl-C is the sweep's, which ends its child. Nothing may come to our stdout.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "fastdc.sweep.alone", str(connection)],
        env=environment,
        pass_fds=[connection],
        stdout=2,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _hear(connection: "Connection[Any, Any]", child: "subprocess.Popen[bytes]") -> Answer:
    """The answer; events are told as they come, each once."""
    next_one = 0
    while True:
        said: Answer | Told = _receive(connection, child)
        told = said.events if isinstance(said, Answer) else said
        for number, event in told:
            if number >= next_one:
                publish(event)
                next_one = number + 1
        if isinstance(said, Answer):
            return said


def _receive(connection: "Connection[Any, Any]", child: "subprocess.Popen[bytes]") -> Any:
    """The next message; EOFError where the child has died, even if a process of its own holds the other end open."""
    while not connection.poll(POLL_SECONDS):
        if child.poll() is not None and not connection.poll():
            raise EOFError
    return connection.recv()


def _death(code: int) -> str:
    """What a process died of, in words."""
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
    return f"its process {how}{' (was the memory short?)' if code in OUT_OF_MEMORY else ''}"


def main() -> None:
    """The child."""
    sweep: Connection[Any, Any] = Connection(int(sys.argv[1]))
    plan, folder, key, costs = sweep.recv()
    threading.Thread(target=_end_with, args=(sweep,), daemon=True).start()

    worker = CellWorker()
    problem = worker.open(plan, Home(this_fastdc(), folder))
    sweep.send(problem)
    if problem is None:
        turns = threading.Lock()
        threading.Thread(target=_tell_news, args=(sweep, worker, turns), daemon=True).start()
        answer = worker.run([key], costs)
        with turns:
            sweep.send(answer)


def _tell_news(sweep: "Connection[Any, Any]", worker: CellWorker, turns: threading.Lock) -> None:
    number = 0
    while True:
        told = worker.news(number)
        if told:
            number = told[-1][0] + 1
            with turns, suppress(OSError):
                sweep.send(told)


def _end_with(sweep: "Connection[Any, Any]") -> None:
    """End this process when the sweep's has ended."""
    try:
        sweep.recv()
    except (EOFError, OSError):
        os._exit(1)


if __name__ == "__main__":
    main()
