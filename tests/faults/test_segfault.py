"""A cell that takes its process down: the others end, it goes last, and the command says what it tries again."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.sweep.config import SweepConfig
from fastdc.sweep.store import Store

Make = Callable[..., SweepConfig]

SWEEP = """
import ctypes, os, sys
from fastdc.sweep import cell
from fastdc.sweep.run import CellResult

def run(self, cell):
    if cell.seed == 1:
        ctypes.string_at(0) if sys.argv[2] == "segfault" else os._exit(137)
    numbers = dict.fromkeys(("epochs", "steps", "images", "image_bytes", "label_bytes", "train_seconds"), 1)
    return CellResult({"top1": 50.0, "top1_best": 50.0, "top5": None, "cost": {}, **numbers}, {})

cell.CellRunner.run = run
from fastdc.cli import run as command
sys.exit(command(["sweep", sys.argv[1]]))
"""


@pytest.mark.parametrize(("how", "code"), [("segfault", -signal.SIGSEGV), ("memory", 137)])
def test_the_others_end_after_a_few_tries(
    make_config: Make,
    write_yaml: Callable[[SweepConfig, Path], Path],
    tmp_path: Path,
    how: str,
    code: int,
) -> None:
    config = write_yaml(make_config(seeds="0-3", workdir=tmp_path / "work"), tmp_path / "grid.yaml")
    left = []
    for _ in range(2):
        command = [sys.executable, "-c", SWEEP, str(config), how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code
        with Store(tmp_path / "work" / "store.sqlite", readonly=True) as store:
            left.append({record.label["seed"]: record.state for record in store.records() if record.state != "done"})
    assert left[0] == {1: "running", 2: "pending", 3: "pending"}
    assert left[1] == {1: "running"}  # what was begun and not ended goes after the others
