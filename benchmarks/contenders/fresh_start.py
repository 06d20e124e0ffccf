"""Contender: from opening a beton to its first batch, each time in a new process.

    python -m contenders.fresh_start SIDE BETON SIZE OUTPUT WORKERS

On both sides the clock starts after the library and its parts of torch are imported, and stops at the first batch.
The time of these imports is reported separately.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

from harness.process import describe_end
from harness.race import Outcome


class FreshStart:
    """Runner that starts a new process per repetition."""

    def __init__(self, side: str, beton: str, size: int, output: str) -> None:
        self._arguments = [side, beton, str(size), output]
        self._workers = 1

    def prepare(self, workers: int) -> None:
        """Remember the number of workers."""
        self._workers = workers

    def repeat(self, share: float) -> Outcome:
        """Run one process.

        Raises:
            RuntimeError: the process failed; names its last line on stderr, or its signal.
        """
        command = [sys.executable, "-m", "contenders.fresh_start", *self._arguments, str(self._workers)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(describe_end(done.returncode, done.stderr))
        facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return Outcome(1, seconds=facts["seconds"], facts=lambda: facts)

    def check(self) -> dict[str, Any]:
        """Check nothing; the facts hold the measurements."""
        return {}


def main(side: str, beton: str, size: int, output: str, workers: int) -> None:
    """Import, then open and take a batch, and print both times."""
    begin = time.perf_counter()
    first = (
        prepare_ours(beton, size, output, workers) if side == "ours" else prepare_stock(beton, size, output, workers)
    )
    imported = time.perf_counter()
    shape = list(first().shape)
    seconds = time.perf_counter() - imported
    print(json.dumps({"seconds": seconds, "imports_seconds": imported - begin, "batch": shape}), flush=True)
    os._exit(0)  # a normal exit would wait for FFCV's thread, which runs to the end of the epoch


def prepare_ours(beton: str, size: int, output: str, workers: int) -> Any:
    """Import fastdc's loader and return the timed step; what that imports later counts."""
    import torch  # noqa: F401

    from fastdc.loader import TrainView, open_loader

    def first() -> Any:
        loader = open_loader(
            beton,  # type: ignore[arg-type]
            TrainView(size),
            batch_size=128,
            shuffle=True,
            engine="ffcv",
            output=output,  # type: ignore[arg-type]
            workers=workers,
        )
        return next(iter(loader.epoch(0))).images

    return first


def prepare_stock(beton: str, size: int, output: str, workers: int) -> Any:
    """Import FFCV's loader, fields and operations, and return the timed step."""
    import ffcv.fields.basics
    import ffcv.loader
    import ffcv.transforms  # noqa: F401

    from contenders.stock_ffcv import open_stock

    return lambda: next(iter(open_stock(beton, size, output, 128, workers)))[0]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
