"""Trackers beside a sweep: each in a process of its own, fed through a pipe that is never waited for.

A tracker that is missing, fails, hangs or falls behind costs one warning; training waits for none of it. Keys and
passwords stay where the libraries find them (environment, netrc): they are on no command line, in no log, in no store.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

from fastdc.errors import ConfigError
from fastdc.progress import say
from fastdc.settings import closest
from fastdc.track.events import Event, listening

HANG_SECONDS = 60.0
"""A tracker that takes no event for so long hangs."""
CLOSE_SECONDS = 20.0
"""How long the end of a sweep waits for a tracker to write what it holds."""
MOST_WAITING_BYTES = 4_000_000


class Kind(NamedTuple):
    """A kind of tracker: the package it needs, the class that feeds it, its name for people."""

    package: str
    target: str
    title: str


TRACKERS = {
    "tensorboard": Kind("tensorboard", "fastdc.track.to_tensorboard:TensorBoard", "TensorBoard"),
    "wandb": Kind("wandb", "fastdc.track.to_wandb:WeightsAndBiases", "Weights & Biases"),
    "mlflow": Kind("mlflow", "fastdc.track.to_mlflow:MLflow", "MLflow"),
}


def check_trackers(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        ConfigError: there is no such tracker.
    """
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"tracker '{name}': unknown; {closest(name, TRACKERS)}")
    return tuple(dict.fromkeys(names))


@contextmanager
def tracking(names: Sequence[str], folder: Path) -> Iterator[None]:
    """Hand the events of the block to trackers; nothing starts before the first event.

    Args:
        names: of `TRACKERS`.
        folder: where they may write, each in a folder of its own inside.
    """
    with ExitStack() as stack:
        for name in names:
            remote = Remote(TRACKERS[name], folder)
            stack.callback(remote.close)
            stack.enter_context(listening(remote.send))
        yield


class Remote:
    """A tracker in a process of its own, as a listener to events.

    Args:
        kind: which tracker. folder: where it may write.
    """

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting = bytearray()
        self._answers = bytearray()
        self._taken = 0.0
        self._off = False

    def send(self, event: Event) -> None:
        """Pass an event on as far as the pipe has room; the rest waits here."""
        if self._off or (self._process is None and not self._start()):
            return
        if not self._waiting:
            self._taken = time.monotonic()
        self._waiting += _line(event)
        self._pump()
        if self._off or not self._waiting:
            return
        if len(self._waiting) > MOST_WAITING_BYTES or time.monotonic() - self._taken > HANG_SECONDS:
            self._give_up(f"took nothing for {time.monotonic() - self._taken:.0f} s")

    def close(self) -> None:
        """Let the tracker finish, for `CLOSE_SECONDS` at most."""
        process = self._process
        if process is None or self._off:
            return
        deadline = time.monotonic() + CLOSE_SECONDS
        try:
            while self._waiting and not self._off and time.monotonic() < deadline:
                self._wait(deadline, writing=True)
                self._pump()
            if not self._off:
                self._stdin.close()
            while not self._off and process.poll() is None and time.monotonic() < deadline:
                self._wait(deadline, writing=False)
                self._read()
            if not self._off:
                self._last_words()
        finally:  # also when a signal ends the wait
            self._end()

    def _start(self) -> bool:
        package = self.kind.package
        if find_spec(package) is None:
            self._give_up(f"the package {package} is not installed; pip install 'fastdc[trackers]'")
            return False
        root = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fastdc.track.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths},
                start_new_session=True,  # a Ctrl-C is the sweep's: the tracker ends when its input does
            )
        except OSError as error:
            self._give_up(f"cannot start ({error.strerror})")
            return False
        for stream in (self._stdin, self._stdout):
            os.set_blocking(stream.fileno(), False)
        self._waiting += _line({"target": self.kind.target, "folder": str(self.folder.absolute())})
        self._taken = time.monotonic()
        return True

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    def _pump(self) -> None:
        """Write what the pipe takes, read what the tracker says."""
        try:
            while self._waiting:
                count = os.write(self._stdin.fileno(), self._waiting)
                del self._waiting[:count]
                self._taken = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:  # it has ended; its last words say why
            self._last_words()
            return
        self._read()

    def _read(self) -> None:
        """Take the tracker's answers; False once it says no more."""
        try:
            while chunk := os.read(self._stdout.fileno(), 65536):
                self._answers += chunk
        except BlockingIOError:
            pass
        *lines, rest = bytes(self._answers).split(b"\n")
        self._answers = bytearray(rest)
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, answer: dict[str, Any]) -> None:
        if "where" in answer:
            say(f"{self.kind.title}: {answer['where']}")
        elif "error" in answer:
            self._give_up(answer["error"])
        elif "closed" in answer:
            self._off = True  # all is written

    def _last_words(self) -> None:
        """What it said before it ended; it hangs if it has not."""
        self._read()
        if self._off:
            return
        try:
            assert self._process is not None
            code = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._give_up(f"did not end within {CLOSE_SECONDS:.0f} s")
            return
        self._read()
        if not self._off:
            self._give_up(f"its process ended with exit code {code}")

    def _wait(self, deadline: float, writing: bool) -> None:
        """Until the tracker answers, ends, or takes more; at most to the deadline."""
        writers = [self._stdin] if writing else []
        select.select([self._stdout], writers, [], min(0.1, max(0.0, deadline - time.monotonic())))

    def _give_up(self, reason: str) -> None:
        self._off = True
        say(f"warning: {self.kind.title}: {reason}; goes on without it, no result is lost")
        self._end()

    def _end(self) -> None:
        """Nothing of the process stays."""
        self._off = True
        self._waiting.clear()
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(5)
        for stream in (self._stdin, self._stdout):
            stream.close()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
