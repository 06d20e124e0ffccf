"""Run trackers beside a sweep, each in its own process, fed through a non-blocking pipe.

A tracker that is missing, fails, hangs or falls behind causes one warning, and training never waits for it. Keys and
passwords stay where the libraries find them (environment, netrc). They appear on no command line, in no log and in no
store.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

from fastdc.common.errors import ConfigError
from fastdc.common.extras import install_extra
from fastdc.common.log import log_message
from fastdc.common.registry import Registry
from fastdc.track.events import Event, listening

HANG_SECONDS = 60.0
"""Time without a single byte taken after which a tracker counts as hanging."""
CLOSE_SECONDS = 20.0
"""Time that the end of a sweep waits for trackers to write pending events."""
PATIENCE_SECONDS = 2.0
"""Time after which a message names the trackers that the sweep waits for."""
MOST_WAITING_BYTES = 4_000_000
MOST_ANSWER_BYTES = 65536
"""As much as a pipe holds, and far more than a tracker needs for its answers."""
POLL_SECONDS = 0.02


class Kind(NamedTuple):
    """Describe a kind of tracker.

    Attributes:
        package: package that it needs.
        target: its class as `module:class`.
        title: name shown to the user.
    """

    package: str
    target: str
    title: str


TRACKERS = {
    "tensorboard": Kind("tensorboard", "fastdc.track.tensorboard_tracker:TensorBoard", "TensorBoard"),
    "wandb": Kind("wandb", "fastdc.track.wandb_tracker:WeightsAndBiases", "Weights & Biases"),
    "mlflow": Kind("mlflow", "fastdc.track.mlflow_tracker:MLflow", "MLflow"),
}
ENTRY_POINT_GROUP = "fastdc.trackers"
TARGET = re.compile(r"[\w.]+:\w+")


class Trackers(Registry[Kind]):
    """Registry of trackers. A plug-in is not loaded here, only in its own process."""

    def __init__(self) -> None:
        super().__init__("tracker", Kind, lambda kind: kind.title, ConfigError)
        for name, kind in TRACKERS.items():
            self.add(name, kind, kind.target)

    def load_plugin(self, point: EntryPoint) -> None:
        """Register the class that an entry point names, without an import."""
        if not TARGET.fullmatch(point.value):
            raise ConfigError(f"found {point.value!r}, expected the class of a tracker as module:class")
        self.add(point.name, Kind(point.module.partition(".")[0], point.value, point.name), point.value)


@cache
def all_trackers() -> Trackers:
    """Return fastdc's trackers, then those of other packages."""
    trackers = Trackers()
    trackers.load_plugins(ENTRY_POINT_GROUP)
    return trackers


def check_trackers(names: Iterable[str]) -> tuple[str, ...]:
    """Check the names of trackers and return each once.

    Raises:
        ConfigError: there is no such tracker, or it is a malformed plug-in.
    """
    for name in names:
        all_trackers().get(name)
    return tuple(dict.fromkeys(names))


@contextmanager
def tracking(names: Sequence[str], folder: Path) -> Iterator[None]:
    """Send the events of the block to trackers, whose processes start at the first event.

    Args:
        names: trackers, by their names in `all_trackers`.
        folder: where they may write, each in its own subfolder.
    """
    remotes = [Remote(all_trackers().get(name), folder) for name in names]
    with ExitStack() as stack:
        stack.callback(close_all, remotes)
        for remote in remotes:
            stack.enter_context(listening(remote.send))
        yield


def close_all(remotes: Sequence["Remote"], seconds: float | None = None) -> None:
    """Let all trackers finish side by side, within `seconds` or `CLOSE_SECONDS`, then end their processes."""
    seconds = CLOSE_SECONDS if seconds is None else seconds
    start, reported = time.monotonic(), False
    try:
        while busy := [remote for remote in remotes if remote.finishing()]:
            waited = time.monotonic() - start
            if waited > seconds:
                break  # `busy` keeps the trackers that did not finish
            if waited > PATIENCE_SECONDS and not reported:
                names = ", ".join(remote.kind.title for remote in busy)
                log_message(f"{names}: still writing; waits for {seconds:.0f} s at most")
                reported = True
            time.sleep(POLL_SECONDS)
        for remote in busy:
            remote.give_up(f"did not end within {seconds:.0f} s")
    finally:  # also if a signal ends the wait
        for remote in remotes:
            remote.end()


class Remote:
    """Listener that passes events to a tracker in its own process.

    Args:
        kind: kind of tracker.
        folder: where it may write.
    """

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting = bytearray()
        self._answers = bytearray()
        self._taken = 0.0  # when the tracker last took bytes, by time.monotonic
        self._off = False

    def send(self, event: Event) -> None:
        """Write an event as far as the pipe has room, and keep the rest for the next call."""
        if self._off or (self._process is None and not self._start()):
            return
        if not self._waiting:
            self._taken = time.monotonic()
        self._waiting += _line(event)
        self._pump()
        if self._off or not self._waiting:
            return
        if len(self._waiting) > MOST_WAITING_BYTES or time.monotonic() - self._taken > HANG_SECONDS:
            self.give_up(f"accepted no events for {time.monotonic() - self._taken:.0f} s")

    def finishing(self) -> bool:
        """Write the bytes that still wait, then close the tracker's input; return whether the tracker still works."""
        if self._process is None or self._off:
            return False
        self._pump()
        if not self._off and not self._waiting:
            self._stdin.close()
        if not self._off and self._process.poll() is not None:
            self._report_end()
        return not self._off

    def _start(self) -> bool:
        package = self.kind.package
        if find_spec(package) is None:
            own = self.kind in TRACKERS.values()
            advice = install_extra("trackers") if own else "install the package of this plug-in again"
            self.give_up(f"the package {package} is not installed; {advice}")
            return False
        root = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        try:
            self._process = subprocess.Popen(
                # -P keeps the current folder off the import path, where a file could shadow a module.
                [sys.executable, "-P", "-m", "fastdc.track.tracker_process", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths},
                start_new_session=True,  # keeps Ctrl-C away from the tracker, which ends when its input does
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
        """Write as much as the pipe takes, then read the tracker's answers."""
        try:
            while self._waiting:
                count = os.write(self._stdin.fileno(), self._waiting)
                del self._waiting[:count]
                self._taken = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            self._report_end()
            return
        self._read()

    def _read(self) -> None:
        """Read and handle the tracker's answers, by one read so that endless output cannot block the sweep."""
        try:
            self._answers += os.read(self._stdout.fileno(), MOST_ANSWER_BYTES)
        except BlockingIOError:
            return
        *lines, rest = bytes(self._answers).split(b"\n")
        self._answers = bytearray(rest)
        garbled = len(rest) > MOST_ANSWER_BYTES
        try:
            for line in lines:
                self._handle(json.loads(line))
        except (ValueError, TypeError):  # no JSON, or no object
            garbled = True
        if garbled:
            self.give_up("its library wrote into the pipe of its answers")

    def _handle(self, answer: dict[str, Any]) -> None:
        if "where" in answer:
            log_message(f"{self.kind.title}: {answer['where']}")
        elif "error" in answer:
            self.give_up(answer["error"])
        elif "closed" in answer:
            self._off = True  # the tracker has written everything

    def _report_end(self) -> None:
        """Give up a tracker that takes no more input, with its last answer or its exit code as the reason."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        self._read()
        if not self._off:
            code = self._process.poll()
            self.give_up("takes no more events" if code is None else f"its process ended with exit code {code}")

    def give_up(self, reason: str) -> None:
        """Go on without this tracker, and warn once with the reason."""
        if not self._off:
            self.end()
            log_message(f"warning: {self.kind.title}: {reason}; continuing without it; no result is lost")

    def end(self) -> None:
        """Kill the tracker's process and those that it started."""
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
