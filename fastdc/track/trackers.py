"""Trackers beside a sweep: each in a process of its own, fed through a pipe that is never waited for.

A tracker that is missing, fails, hangs or falls behind costs one warning; training waits for none of it. Keys and
passwords stay where the libraries find them (environment, netrc): they are on no command line, in no log, in no store.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
PATIENCE_SECONDS = 2.0
"""After so long people are told what they wait for."""
MOST_WAITING_BYTES = 4_000_000
MOST_ANSWER_BYTES = 65536
"""As much as a pipe holds, and far more than a tracker has to say."""
POLL_SECONDS = 0.02


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
    remotes = [Remote(TRACKERS[name], folder) for name in names]
    with ExitStack() as stack:
        stack.callback(close_all, remotes)
        for remote in remotes:
            stack.enter_context(listening(remote.send))
        yield


def close_all(remotes: Sequence["Remote"]) -> None:
    """Let the trackers finish side by side, for `CLOSE_SECONDS` at most."""
    start, told = time.monotonic(), False
    try:
        while busy := [remote for remote in remotes if remote.finishing()]:
            waited = time.monotonic() - start
            if waited > CLOSE_SECONDS:
                break
            if waited > PATIENCE_SECONDS and not told:
                names = ", ".join(remote.kind.title for remote in busy)
                say(f"{names}: still writing; waits for {CLOSE_SECONDS:.0f} s at most")
                told = True
            time.sleep(POLL_SECONDS)
        for remote in busy:
            remote.give_up(f"did not end within {CLOSE_SECONDS:.0f} s")
    finally:  # also when a signal ends the wait
        for remote in remotes:
            remote.end()


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
            self.give_up(f"took nothing for {time.monotonic() - self._taken:.0f} s")

    def finishing(self) -> bool:
        """Pass on what still waits, then end the tracker's input; whether it is still at work."""
        if self._process is None or self._off:
            return False
        self._pump()
        if not self._off and not self._waiting:
            self._stdin.close()
        if not self._off and self._process.poll() is not None:
            self._last_words()
        return not self._off

    def _start(self) -> bool:
        package = self.kind.package
        if find_spec(package) is None:
            self.give_up(f"the package {package} is not installed; pip install 'fastdc[trackers]'")
            return False
        root = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fastdc.track.child", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths},
                start_new_session=True,  # a Ctrl-C is the sweep's: the tracker ends when its input does
            )
        except OSError as error:
            self.give_up(f"cannot start ({error.strerror})")
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
        except OSError:
            self._last_words()
            return
        self._read()

    def _read(self) -> None:
        """Take what the tracker has said; one that never stops talking is not listened to for ever."""
        try:
            self._answers += os.read(self._stdout.fileno(), MOST_ANSWER_BYTES)
        except BlockingIOError:
            return
        *lines, rest = bytes(self._answers).split(b"\n")
        self._answers = bytearray(rest)
        garbled = len(rest) > MOST_ANSWER_BYTES
        try:
            for line in lines:
                self._hear(json.loads(line))
        except (ValueError, TypeError):  # no JSON, or no object
            garbled = True
        if garbled:
            self.give_up("its library wrote into the pipe that its answers come by")

    def _hear(self, answer: dict[str, Any]) -> None:
        if "where" in answer:
            say(f"{self.kind.title}: {answer['where']}")
        elif "error" in answer:
            self.give_up(answer["error"])
        elif "closed" in answer:
            self._off = True  # all is written

    def _last_words(self) -> None:
        """It takes no more: what it said before says why, else how its process ended."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        self._read()
        if not self._off:
            code = self._process.poll()
            self.give_up("takes no more events" if code is None else f"its process ended with exit code {code}")

    def give_up(self, reason: str) -> None:
        """Go on without this tracker; says why, once."""
        if not self._off:
            self.end()
            say(f"warning: {self.kind.title}: {reason}; goes on without it, no result is lost")

    def end(self) -> None:
        """Nothing of the process stays, nor of what it has started."""
        self._off = True
        self._waiting.clear()
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        for stream in (self._stdin, self._stdout):
            stream.close()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
