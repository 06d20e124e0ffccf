"""The Triton kernel without a GPU: Triton's interpreter draws the CPU's pixels, and the kernel compiles for a GPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")


def test_the_interpreted_kernel_draws_the_pixels_of_the_cpu() -> None:
    """Run in a separate process, because Triton reads the variable when it is imported."""
    cases = Path(__file__).with_name("interpreted_kernel.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=environment)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("out", ["*u8", "*fp32"])
def test_the_compiled_kernel_rounds_every_product(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton compiles for an absent GPU; a fused multiply-add would give other levels than the CPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fastdc.loader.engines import device_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pointers = {"images": "*u8", "samples": "*i64", "places": "*i32", "levels": "*fp32", "out": out}
    fixed = {"size": 24, "taps": 8, "columns": 32, "normalise": out != "*u8"}
    signature = {**pointers, "height": "i32", "width": "i32", **dict.fromkeys(fixed, "constexpr")}
    source = ASTSource(device_kernel._draw, signature, constexprs=fixed)
    options = {"enable_fp_fusion": False}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm
    assert len(made["cubin"]) > 1000
    assert "div.rn.f64" in made["ptx"]
    assert re.findall(r"\bfma\.\S+", made["ptx"]) == []
