"""Several cells at once on one device: in one process, and each in a process of its own.

python -m gpu_sections.together SETUP_JSON      # trains a cell for each line of stdin
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from fastdc.train.evaluation import run_evaluation
from fastdc.train.evaluation_request import EvaluationRequest
from gpu_sections.cells import accuracy, native, settings_of
from gpu_sections.findings import Fact, Finding, Found
from gpu_sections.setup import Setup

CELLS = 4

Process = subprocess.Popen[str]


def check(setup: Setup) -> Iterator[Finding]:
    """Train four cells at once in one process; on a GPU also in four."""
    one, all_of_them = (_in_this_process(setup, count) for count in (1, CELLS))
    yield Fact("one process", {"one": one, f"{CELLS} at once": all_of_them})
    yield Found("streams-gain", CELLS * one / all_of_them)
    if setup.on_cuda:
        yield from check_processes(setup)


def _in_this_process(setup: Setup, count: int) -> float:
    """Return the seconds of trainings that share a stream of images, after one epoch that is not timed."""
    for epochs in (1, setup.size.epochs):
        changes = {"order": "shared"}
        settings = tuple(settings_of(epochs, seed, native(setup), changes) for seed in range(count))
        start = time.perf_counter()
        run_evaluation(EvaluationRequest(Path(setup.subset), Path(setup.val), settings))
    return time.perf_counter() - start


def check_processes(setup: Setup) -> Iterator[Finding]:
    """Train one cell, then four at once, in processes that have trained one before."""
    with ExitStack() as stack:
        cells = [stack.enter_context(_start(setup)) for _ in range(CELLS)]
        for cell in cells:
            stack.callback(cell.kill)
        _together(cells)
        one, all_of_them = _together(cells[:1]), _together(cells)
    yield Fact("four processes", {"one": one, f"{CELLS} at once": all_of_them})
    yield Found("processes-gain", CELLS * one / all_of_them)


def _start(setup: Setup) -> Process:
    command = [sys.executable, "-m", "gpu_sections.together", setup.text()]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _together(cells: Sequence[Process]) -> float:
    """Let processes train a cell each, and return the seconds until the last is done."""
    start = time.perf_counter()
    for cell in cells:
        assert cell.stdin is not None
        cell.stdin.write("train\n")
        cell.stdin.flush()
    for cell in cells:
        assert cell.stdout is not None
        if not cell.stdout.readline():
            raise RuntimeError(f"a training ended with code {cell.wait()}")
    return time.perf_counter() - start


def main(text: str) -> None:
    """Train a cell for each line of stdin."""
    setup = Setup(**json.loads(text))
    for _ in sys.stdin:
        print(accuracy(setup, 0, native(setup)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
