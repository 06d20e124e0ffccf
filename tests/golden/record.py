"""Record one group of golden values in a process of its own, with kernels that every x86-64 CPU with AVX2 has.

    python -m tests.golden.record GROUP FOLDER FILE

Without these variables digits follow the kernels that MKL, oneDNN and torch choose for the CPU at hand.
"""

import json
import os
import platform
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.golden.surface import write_plugin
from tests.processes import start_process

ROOT = Path(__file__).parents[2]
GROUPS = ("keys", "made", "stores", "surface")
SECONDS = 500
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    # Kernels that do not change with the CPU's type: each rounds its sums in its own way.
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "FASTDC_DEBUG": "0",
}


def start(group: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start the recording of a group in an empty folder."""
    work, plugins = folder / "work", folder / "plugins"
    work.mkdir(parents=True)
    plugins.mkdir()
    if group == "surface":
        write_plugin(plugins)
    path = os.pathsep.join([str(ROOT), str(plugins)])
    command = [sys.executable, "-m", "tests.golden.record", group, str(work), str(folder / "values.json")]
    with (folder / "log").open("w") as log:
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}
        return start_process(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)


def values(process: "subprocess.Popen[bytes]", folder: Path) -> Any:
    """Wait for a recording and return its values.

    Raises:
        RuntimeError: it failed; the end of what it printed.
    """
    if process.wait(timeout=SECONDS) != 0:
        raise RuntimeError((folder / "log").read_text()[-5000:])
    return json.loads((folder / "values.json").read_text())


def cpu() -> str:
    """Return the model of this machine's processor."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def missing_kernels() -> str | None:
    """Return why the kernels of `ENVIRONMENT` cannot run here; None where they can."""
    if platform.machine() != "x86_64":
        return f"this processor is {platform.machine()}, expected x86_64"
    return None if "avx2" in _cpuinfo("flags").split() else "this processor has no AVX2"


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def main(group: str, work: str, out: str) -> None:
    """Record in this process."""
    os.chdir(work)
    found = import_module(f"tests.golden.{group}").record(Path(work))
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
