"""The Triton kernel in Triton's interpreter: the pixels of the CPU's kernels in every bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_the_interpreted_kernel_draws_the_pixels_of_the_cpu() -> None:
    """In a process of its own, because Triton reads the variable when it is imported."""
    cases = Path(__file__).with_name("interpreted_kernel.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=environment)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
