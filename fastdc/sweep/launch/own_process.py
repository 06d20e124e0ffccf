"""Run a cell in a process of its own.

Three kinds of cells run this way: those whose last process ended while they ran, whether the cell or a kill ended it;
those that failed through a fault of the machine and that `--rerun` tries again; and every cell once the sweep's process
has lost its GPU. Inside the sweep's process such a cell could end the whole sweep, time after time. A child process
that crashes costs only its own cell, and its exit code shows the cause. The child exits with the sweep's process.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fastdc.common.errors import WorkerError
from fastdc.common.log import log_message
from fastdc.sweep.cell_result import CellFailure
from fastdc.sweep.cell_runner import SubsetCosts
from fastdc.sweep.launch.remote_worker import Home, RemoteWorker, this_fastdc
from fastdc.sweep.launch.workers import Ended, Event, Finished, Request, Started
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.provenance import Watch

POLL_SECONDS = 0.5
EXIT_SECONDS = 20.0
"""Time that a process has to exit by itself after it closed its end of the pipe."""
OUT_OF_MEMORY = (-signal.SIGKILL, 128 + signal.SIGKILL)


def run_in_own_process(plan: Plan, costs: SubsetCosts, cell: Cell) -> Iterator[Event]:
    """Run a cell in a child process and generate its events; a crash of the child is a failure of the cell.

    Raises:
        WorkerError: no such process could be started.
        Exception: an error that would end every other cell too, such as a full disk.
    """
    log_message(f"{cell.name}: runs in a process of its own")
    key = "" if cell.subset is None else cell.subset.key
    cost = costs.subset_cost(key)
    watch = Watch()
    message = _pickled((plan, Path.cwd(), Request((cell.key,), {} if cost is None else {key: cost})))
    ours, its = Pipe()
    with ours:
        with its:  # closed here once the child has it, so that the pipe breaks when the child ends
            child = _start(its.fileno())
        try:
            for event in _events(ours, child, message):
                if not isinstance(event, Finished):
                    yield event
                elif event.error is None:
                    return
                else:
                    raise event.error
            with suppress(subprocess.TimeoutExpired):  # it crashed at work: wait for its exit code
                child.wait(EXIT_SECONDS)
        finally:
            child.kill()
            child.wait()
    reason = f"{describe_exit(child.returncode)} while it ran there alone; --rerun failed tries again"
    yield Ended(cell.key, CellFailure("failed", reason, "infrastructure", provenance=watch.record(cell)))


def _pickled(request: object) -> bytes:
    try:
        return pickle.dumps(request)
    except Exception as error:  # a plug-in's method may fail to pickle with any type of error
        raise WorkerError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def _start(connection: int) -> "subprocess.Popen[bytes]":
    """Start the child with one end of the pipe; it imports modules from the same places as this process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    # A new session keeps Ctrl-C away from the child: the sweep handles the signal and then ends the child.
    # stdout goes to stderr, because the sweep's stdout is for results. -P keeps the current folder off sys.path.
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import main; main()", str(connection)],
            env=environment,
            pass_fds=[connection],
            stdout=2,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise WorkerError(str(error.strerror or error)) from error


def _events(connection: "Connection[Any, Any]", child: "subprocess.Popen[bytes]", message: bytes) -> Iterator[Event]:
    """Send the child its cell and generate its events, of which `Finished` is the last unless it crashes.

    Raises:
        WorkerError: it could not start.
    """
    try:
        connection.send_bytes(message)
        started: Started = _receive(connection, child)
    except (EOFError, OSError):
        raise WorkerError("it ended while it started") from None
    if started.problem is not None:
        raise WorkerError(started.problem)
    with suppress(EOFError, OSError):
        while True:
            yield _receive(connection, child)


def _receive(connection: "Connection[Any, Any]", child: "subprocess.Popen[bytes]") -> Any:
    """Return the next message.

    Raises:
        EOFError: the child has ended, even if a process that it started keeps the other end of the pipe open.
    """
    while not connection.poll(POLL_SECONDS):
        if child.poll() is not None and not connection.poll():  # polled again: it may have sent before it ended
            raise EOFError
    return connection.recv()


def describe_exit(code: int) -> str:
    """Describe in words how a process ended."""
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
    return f"its process {how}{' (was the memory short?)' if code in OUT_OF_MEMORY else ''}"


def main() -> None:
    """Run one cell in the child process and send its events to the sweep."""
    sweep: Connection[Any, Any] = Connection(int(sys.argv[1]))
    plan, folder, request = sweep.recv()
    threading.Thread(target=_exit_with, args=(sweep,), daemon=True).start()
    turns = threading.Lock()

    def report(event: Event) -> None:
        with turns, suppress(OSError):  # the sweep's process is gone
            sweep.send(event)

    worker = RemoteWorker(report)
    problem = worker.open(plan, Home(this_fastdc(), folder))
    report(Started(problem))
    if problem is None:
        worker.run(request)


def _exit_with(sweep: "Connection[Any, Any]") -> None:
    """Exit this process once the sweep's process has ended."""
    try:
        sweep.recv()  # the sweep sends no more, so this returns only when the pipe breaks
    except (EOFError, OSError):
        os._exit(1)
