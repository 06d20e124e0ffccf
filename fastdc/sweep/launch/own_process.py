"""Run a cell in a process of its own.

Three kinds of cells run this way: those whose last process ended while they ran, whether the cell or a kill ended it;
those that failed through a fault of the machine and that `--rerun` tries again; and every cell once the sweep's process
has lost its GPU. Inside the sweep's process such a cell could end the whole sweep, time after time. A child process
that crashes costs only its own cell, and its exit code shows the cause. The child exits when the
sweep's process is gone.
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

from fastdc.common.log import log_message
from fastdc.sweep.cells import Cell, Plan
from fastdc.sweep.launch.worker import Answer, CellWorker, Home, Told, this_fastdc
from fastdc.sweep.provenance import Watch
from fastdc.sweep.run_cells import POLL_SECONDS, CellFailure, CellResult
from fastdc.sweep.store.results import Store
from fastdc.track.events import publish

DEATH_SECONDS = 20.0
"""Time that a process has to exit by itself after it closed its end of the pipe."""
OUT_OF_MEMORY = (-signal.SIGKILL, 128 + signal.SIGKILL)


class Alone:
    """Runner of the cells of `plan`, one after the other, each in a process of its own."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store

    def __call__(self, cell: Cell) -> CellResult | CellFailure | None:
        """Run a cell and return how it ended; return None if no such process can be started.

        Raises:
            Exception: an error that would end every other cell too, such as a full disk.
        """
        log_message(f"{cell.name}: runs in a process of its own")
        key = None if cell.subset is None else cell.subset.key
        cost = None if key is None else self._store.subset_cost(key)
        costs = {key: cost} if key is not None and cost is not None else {}
        watch = Watch()
        problem, answer, code = _ask((self._plan, Path.cwd(), cell.key, costs))
        if problem is not None:
            log_message(f"{cell.name}: runs here, for a process of its own could not be started ({problem})")
            return None
        if answer is None:
            text = f"{_death(code)} while it ran there alone; --rerun failed tries again"
            return CellFailure("failed", text, "infrastructure", provenance=watch.told(cell))
        for line in answer.said.splitlines():
            log_message(line)
        for made, (label, seconds) in answer.costs.items():
            self._store.keep_subset_cost(made, label, seconds)
        if answer.ends is not None:
            raise answer.ends
        return answer.results[0] if answer.results else answer.failure


def _ask(request: tuple[Any, ...]) -> tuple[str | None, Answer | None, int]:
    """Return why the child could not begin, its answer and its exit code.

    The first two are both None if the child crashed while it ran the cell.
    """
    try:
        wanted = pickle.dumps(request)
    except Exception as error:  # a plug-in's method may fail to pickle with any type of error
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", None, 0
    ours, its = Pipe()
    with ours:
        try:
            with its:  # closed here once the child has it, so that the pipe breaks when the child ends
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
            if answer is None and problem is None:  # it crashed at work: wait for its exit code
                with suppress(subprocess.TimeoutExpired):
                    child.wait(DEATH_SECONDS)
        finally:
            child.kill()
            child.wait()
    return problem, answer, child.returncode


def _start(connection: int) -> "subprocess.Popen[bytes]":
    """Start the child with one end of the pipe; it imports modules from the same places as this process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    # A new session keeps Ctrl-C away from the child: the sweep handles the signal and then ends the child.
    # stdout goes to stderr, because the sweep's stdout is for results. -P keeps the current folder off sys.path.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "fastdc.sweep.launch.own_process", str(connection)],
        env=environment,
        pass_fds=[connection],
        stdout=2,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _hear(connection: "Connection[Any, Any]", child: "subprocess.Popen[bytes]") -> Answer:
    """Return the child's answer, and publish its events as they arrive, each once."""
    next_one = 0
    while True:
        said: Answer | Told = _receive(connection, child)
        told = said.events if isinstance(said, Answer) else said
        for number, event in told:
            if number >= next_one:  # the answer repeats every event
                publish(event)
                next_one = number + 1
        if isinstance(said, Answer):
            return said


def _receive(connection: "Connection[Any, Any]", child: "subprocess.Popen[bytes]") -> Any:
    """Return the next message.

    Raises:
        EOFError: the child has ended, even if a process that it started keeps the other end of the pipe open.
    """
    while not connection.poll(POLL_SECONDS):
        if child.poll() is not None and not connection.poll():  # polled again: it may have sent before it ended
            raise EOFError
    return connection.recv()


def _death(code: int) -> str:
    """Describe in words how a process ended."""
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
    return f"its process {how}{' (was the memory short?)' if code in OUT_OF_MEMORY else ''}"


def main() -> None:
    """Run one cell in the child process and send its answer to the sweep."""
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
    """Exit this process once the sweep's process has ended."""
    try:
        sweep.recv()  # the sweep sends no more, so this returns only when the pipe breaks
    except (EOFError, OSError):
        os._exit(1)


if __name__ == "__main__":
    main()
