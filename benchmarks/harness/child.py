"""Run one contender in its own process, which obeys commands from a pipe and sleeps in between.

    python -m harness.child MODULE:CLASS JSON_ARGUMENTS

Every line on stdin is a command, every line on the original stdout an answer, both as JSON. Output of libraries is
redirected to stderr, which the harness keeps for error messages.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback
from typing import IO, Any

from harness.race import Runner


def main() -> None:
    """Serve commands until the pipe closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # on the level of descriptors, so that output of C libraries cannot mix with answers
    serve(make_runner(sys.argv[1], json.loads(sys.argv[2])), sys.stdin, answers)


def make_runner(factory: str, arguments: dict[str, Any]) -> "Deferred":
    """Return the contender, which the first command constructs, so that a failing import becomes an answer."""
    return Deferred(factory, arguments)


class Deferred:
    """Runner that is imported and constructed on first use."""

    def __init__(self, factory: str, arguments: dict[str, Any]) -> None:
        self._factory, self._arguments = factory, arguments
        self._runner: Runner | None = None

    def get(self) -> Runner:
        """Return the runner."""
        if self._runner is None:
            module, _, name = self._factory.partition(":")
            self._runner = getattr(importlib.import_module(module), name)(**self._arguments)
        return self._runner


def serve(runner: Deferred, commands: IO[str], answers: IO[str]) -> None:
    """Answer each command; an exception becomes an answer and does not end the process."""
    for line in commands:
        try:
            answer = obey(runner.get(), json.loads(line))
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        answers.write(json.dumps(answer) + "\n")


def obey(runner: Runner, command: dict[str, Any]) -> dict[str, Any]:
    """Execute one command and return its result with measurements."""
    start, cpu = time.perf_counter(), cpu_seconds()
    if command["do"] == "prepare":
        runner.prepare(command["workers"])
        return {"seconds": time.perf_counter() - start, "cpu": cpu_seconds() - cpu}
    if command["do"] == "check":
        return runner.check()
    outcome = runner.repeat(command["share"])
    wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    facts = outcome.facts() if outcome.facts is not None else {}
    seconds = wall if outcome.seconds is None else outcome.seconds
    return {"count": outcome.count, "seconds": seconds, "wall": wall, "cpu": cpu, "facts": facts}


def cpu_seconds() -> float:
    """Return the CPU time of this process and its finished children (a DataLoader's workers end with each epoch)."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


if __name__ == "__main__":
    main()
