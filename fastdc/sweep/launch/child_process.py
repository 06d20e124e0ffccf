"""Run cells in a child process on this host, with which this process exchanges messages through a pipe.

The child exits with the process that started it.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from fastdc.common.errors import WorkerError
from fastdc.sweep.launch.plan_message import unpickled
from fastdc.sweep.launch.remote_worker import RemoteWorker
from fastdc.sweep.launch.workers import Event, Request, Started

POLL_SECONDS = 0.5
EXIT_SECONDS = 20.0
"""Time that a process has to exit by itself after it closed its end of the pipe."""
OUT_OF_MEMORY = (-signal.SIGKILL, 128 + signal.SIGKILL)


class ChildProcess:
    """Child process that runs cells of one plan.

    Args:
        message: the first message, see `plan_message.pickled`.
        environment: environment variables that differ from this process's.

    Attributes:
        connection: this process's end of the pipe.

    Raises:
        WorkerError: no process can be started.
    """

    def __init__(self, message: bytes, environment: Mapping[str, str] | None = None) -> None:
        self.connection: Connection[Any, Any]
        self.connection, its = Pipe()
        try:
            with its:  # closed here once the child has it, so that the pipe breaks when the child ends
                self._process = _start(its.fileno(), environment or {})
        except WorkerError:
            self.connection.close()
            raise
        # In a thread, because the child reads its first message only after seconds of imports.
        self._sender = threading.Thread(target=self._send, args=(message,), daemon=True)
        self._sender.start()

    def _send(self, message: bytes) -> None:
        with suppress(OSError):  # it has ended, which `receive` finds out
            self.connection.send_bytes(message)

    def await_start(self) -> None:
        """Wait until the child is ready for requests.

        Raises:
            WorkerError: it could not start.
        """
        try:
            started = self.receive()
        except (EOFError, OSError):
            raise WorkerError("it ended while it started") from None
        assert isinstance(started, Started)
        if started.problem is not None:
            raise WorkerError(started.problem)

    def send(self, request: Request) -> None:
        """Send a request to a child that has started."""
        self._send(pickle.dumps(request))

    def receive(self) -> Event:
        """Return the next event, the first of which is `Started`.

        Raises:
            EOFError: the child has ended, even if a process that it started keeps the other end of the pipe open.
            OSError: the pipe broke.
        """
        while not self.connection.poll(POLL_SECONDS):
            if self.has_ended():
                raise EOFError
        event: Event = self.connection.recv()
        return event

    def events(self) -> Iterator[Event]:
        """Generate the child's events until it ends."""
        with suppress(EOFError, OSError):
            while True:
                yield self.receive()

    def has_ended(self) -> bool:
        """Return whether the child has ended and every event of it was received."""
        return self._process.poll() is not None and not self.connection.poll()

    def exit_reason(self) -> str:
        """Describe how a child ended that closed its end of the pipe; kill it if it goes on."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        self.close()
        return describe_exit(self._process.returncode)

    def kill(self) -> None:
        """Kill the child without waiting for its end."""
        self._process.kill()

    def close(self) -> None:
        """Kill the child, and wait until it has ended."""
        self.kill()
        self._process.wait()
        self._sender.join(POLL_SECONDS)  # the pipe is broken, which ends it
        self.connection.close()


def describe_exit(code: int) -> str:
    """Describe in words how a process ended."""
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
    return f"its process {how}{' (was the memory short?)' if code in OUT_OF_MEMORY else ''}"


def _start(connection: int, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start the child with one end of the pipe; it imports modules from the same places as this process."""
    path = os.pathsep.join(path or os.getcwd() for path in sys.path)
    # A new session keeps Ctrl-C away from the child: the sweep handles the signal and then ends the child.
    # stdout goes to stderr, because the sweep's stdout is for results. -P keeps the current folder off sys.path.
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import main; main()", str(connection)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            pass_fds=[connection],
            stdout=2,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise WorkerError(str(error.strerror or error)) from error


def main() -> None:
    """Run requests in the child process and send their events to the sweep."""
    sweep: Connection[Any, Any] = Connection(int(sys.argv[1]))
    try:
        plan, home = unpickled(sweep.recv_bytes())
    except WorkerError as error:
        sweep.send(Started(str(error)))
        return
    requests: SimpleQueue[Request] = SimpleQueue()
    threading.Thread(target=_receive, args=(sweep, requests), daemon=True).start()
    turns = threading.Lock()

    def report(event: Event) -> None:
        with turns, suppress(OSError):  # the sweep's process is gone
            sweep.send(event)

    worker = RemoteWorker(report)
    problem = worker.open(plan, home)
    report(Started(problem))
    while problem is None:
        worker.run(requests.get())


def _receive(sweep: "Connection[Any, Any]", requests: "SimpleQueue[Request]") -> None:
    """Receive requests; exit this process once the sweep's process has ended."""
    try:
        while True:
            requests.put(sweep.recv())
    except (EOFError, OSError):
        os._exit(1)
