"""No terminal, a dumb or narrow one, a closed pipe: plain lines, no escape codes, no traceback, all work done."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]

# The whole command, with instant cells.
SWEEP = """
import sys
from fastdc.sweep import cell_runner as cell
from fastdc.sweep.cell_result import CellResult

def run(self, cell):
    numbers = dict.fromkeys(("epochs", "steps", "images", "image_bytes", "label_bytes", "train_seconds"), 1)
    return CellResult({"top1": 50.0, "top1_best": 50.0, "top5": None, "cost": {}, **numbers}, {})

cell.CellRunner.run = run
from fastdc.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "shell",
    [
        "{command} >{tmp}/out 2>{tmp}/err </dev/null",
        "TERM=dumb COLUMNS=40 NO_COLOR=1 LANG=C LC_ALL=C {command} >{tmp}/out 2>{tmp}/err",
        "{command} 2>{tmp}/err | head -c 1 >{tmp}/out",
        "{command} >&- 2>&- </dev/null",
    ],
    ids=["no terminal", "dumb", "closed pipe", "closed streams"],
)
def test_a_sweep_without_a_terminal(
    shell: str, make_config: Make, write_yaml: Callable[[SweepConfig, Path], Path], tmp_path: Path
) -> None:
    config = write_yaml(make_config(workdir=tmp_path / "work"), tmp_path / "grid.yaml")
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP)
    command = f"{sys.executable} {script} sweep {config}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    line = shell.format(command=command, tmp=tmp_path)
    subprocess.run(["bash", "-c", line], env=environment, timeout=60, check=False)
    with Store(tmp_path / "work" / "store.sqlite", readonly=True) as store:
        assert set(store.states().values()) == {"done"}
    for name in ("out", "err"):
        text = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else b""
        assert b"\x1b" not in text
        assert b"Traceback" not in text
        assert b"\r" not in text
