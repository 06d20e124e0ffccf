"""Control a contender's process over a pipe: send commands with a time limit, and kill what hangs."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.memory import tree_bytes
from harness.race import Contender

BENCHMARKS = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 0.05


def describe_end(code: int, errors: str) -> str:
    """Return how a failed process ended: the signal, or the last line of its stderr, or the exit code."""
    if code < 0:
        return f"killed by signal {-code}"
    return (errors.strip().splitlines() or [f"ended with exit code {code} and no message"])[-1]


class ContenderError(Exception):
    """A contender failed or hung; the message is one line."""


class ContenderProcess:
    """Running contender.

    Attributes:
        contender: its description. workers: the number it was last prepared with.
        peak_bytes: largest memory that `request` has sampled.
    """

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.workers = contender.workers[0]
        self.peak_bytes = 0
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        path = os.pathsep.join(filter(None, (str(BENCHMARKS), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **contender.environment}
        command = [sys.executable, "-m", "harness.child", contender.factory, json.dumps(dict(contender.arguments))]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,  # its own process group, so that `kill` reaches its workers
        )

    @property
    def pid(self) -> int:
        """Return the id of the contender's process."""
        return self._process.pid

    def prepare(self, workers: int) -> dict[str, Any]:
        """Let the contender open its files for `workers` workers.

        Raises:
            ContenderError: it failed or hung.
        """
        self.workers = workers
        return self.request({"do": "prepare", "workers": workers})

    def repeat(self, share: float = 1.0, sample_memory: bool = False) -> dict[str, Any]:
        """Let the contender do one repetition; see `child.obey` for the answer.

        Sampling memory takes CPU time from the contender, so use it only for repetitions that are not timed.

        Raises:
            ContenderError: it failed or hung.
        """
        return self.request({"do": "repeat", "share": share}, sample_memory)

    def check(self) -> dict[str, Any]:
        """Let the contender check its work.

        Raises:
            ContenderError: it failed or hung, or the work was wrong.
        """
        return self.request({"do": "check"})

    def request(self, command: dict[str, Any], sample_memory: bool = False) -> dict[str, Any]:
        """Send one command and return its answer.

        Raises:
            ContenderError: the answer is an error, the process is gone, or no answer came in time. In the last case
                the process is killed.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ContenderError(f"its process is gone ({error}); {self._last_words()}") from error
        answer: dict[str, Any] = json.loads(self._wait(command["do"], sample_memory))
        if "error" in answer:
            raise ContenderError(f"{command['do']}: {answer['error']}")
        return answer

    def _wait(self, what: str, sample_memory: bool) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + self.contender.timeout
        while True:
            left = end - time.monotonic()
            if left <= 0:
                self.kill()
                raise ContenderError(f"{what}: no answer within {self.contender.timeout:g} s, ended")
            pause = min(left, SAMPLE_SECONDS) if sample_memory else left
            if select.select([self._process.stdout], [], [], pause)[0]:
                break
            self.peak_bytes = max(self.peak_bytes, tree_bytes(self.pid))
        if sample_memory:
            self.peak_bytes = max(self.peak_bytes, tree_bytes(self.pid))
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise ContenderError(f"{what}: its process ended with code {code}; {self._last_words()}")
        return line

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it printed nothing"

    def kill(self) -> None:
        """Kill the contender and its workers."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Let the contender exit, or kill it after 5 s."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
