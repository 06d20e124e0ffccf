"""A cell that is killed and continued: python -m gpu_sections.resuming SETUP_JSON CHECKPOINT trains one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gpu_sections.cells import accuracy, native
from gpu_sections.findings import Fact, Finding, Found
from gpu_sections.setup import Setup


def check(setup: Setup) -> Iterator[Finding]:
    """Kill a training in the middle, continue it, and compare it with one that was left alone."""
    checkpoint = setup.folder / "cell.ckpt"
    saves = setup.size.epochs // 2 + 3  # inside an epoch where every step saves, and before the end in any case
    command = [sys.executable, "-m", "gpu_sections.resuming", setup.text(), str(checkpoint)]
    variables = os.environ | {"FASTDC_FAULT": f"file.replaced:{saves}"}
    code = subprocess.run(command, env=variables, check=False).returncode
    if code != -signal.SIGKILL or not checkpoint.exists():
        raise RuntimeError(f"the training ended with code {code}, expected to be killed at save {saves}")
    continued = accuracy(setup, 0, native(setup), checkpoint)
    alone = accuracy(setup, 0, native(setup))
    yield Fact("accuracies", {"continued": continued, "alone": alone})
    yield Found("resume", abs(continued - alone))


if __name__ == "__main__":
    given = Setup(**json.loads(sys.argv[1]))
    accuracy(given, 0, native(given), Path(sys.argv[2]))
