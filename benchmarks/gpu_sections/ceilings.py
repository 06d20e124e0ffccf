"""Environment and ceilings: versions, and what copies, matrix products and launches reach on the device."""

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import torch
from harness.machine import describe_machine

from fastdc.common.float32 import set_float32
from fastdc.loader.engines.device_drawing import choose_drawing
from fastdc.loader.engines.ffcv_support import ffcv_problem
from gpu_sections.findings import Fact, Finding, Found
from gpu_sections.setup import Setup
from gpu_sections.timing import device_of, seconds_of

QUERY = "name,driver_version,memory.total,power.limit,clocks.sm,clocks.max.sm,clocks.mem"
TYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check(setup: Setup) -> Iterator[Finding]:
    """Report the machine, then measure it."""
    usable = torch.cuda.is_available() or not setup.on_cuda
    yield Fact("machine", describe_machine())
    yield Fact("torch", {"version": torch.__version__, "cuda": torch.version.cuda, "cudnn": _cudnn()})
    yield Fact("nvidia_smi", _nvidia_smi())
    yield Fact("ffcv", ffcv_problem() or "usable")
    yield Found("device", float(usable))
    if not usable:
        return
    device = device_of(setup)
    if setup.on_cuda:
        yield Fact("gpu", _gpu_facts(device))
    yield Fact("views", choose_drawing(device)._asdict())
    yield Fact("copy_gb_per_s", _copy_rates(setup, device))
    yield Fact("matmul_tflops", {name: _product_rate(setup, device, name) for name in _precisions(setup)})
    yield Fact("launch_us", _launch_times(device))


def _cudnn() -> int | None:
    cudnn: Any = torch.backends.cudnn  # its functions have no types
    return cudnn.version() if cudnn.is_available() else None


def _nvidia_smi() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "no nvidia-smi"
    command = [program, f"--query-gpu={QUERY}", "--format=csv"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()


def _gpu_facts(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info()
    capability = f"{properties.major}.{properties.minor}"
    return {"name": properties.name, "capability": capability, "memory": total, "free": free}


def _precisions(setup: Setup) -> tuple[str, ...]:
    return ("fp32", "tf32", "bf16", "fp16") if setup.on_cuda else ("fp32", "bf16")


def _copy_rates(setup: Setup, device: torch.device) -> dict[str, float]:
    """Return GB/s inside the device (bytes read and written), and to it from page-locked memory."""
    here = torch.ones(setup.size.buffer, dtype=torch.uint8, pin_memory=setup.on_cuda)
    there, other = here.to(device), torch.empty_like(here, device=device)
    inside = 2 * len(here) / seconds_of(lambda: other.copy_(there), device) / 1e9
    return {"inside": inside, "from_host": len(here) / seconds_of(lambda: there.copy_(here, True), device) / 1e9}


def _product_rate(setup: Setup, device: torch.device, precision: str) -> float:
    """Return TFLOP/s of a product of square random matrices."""
    set_float32("tf32" if precision == "tf32" else "ieee")
    side = setup.size.product
    matrices = torch.randn(2, side, side, device=device).to(TYPES[precision])
    return 2 * side**3 / seconds_of(lambda: matrices[0] @ matrices[1], device) / 1e12


def _launch_times(device: torch.device) -> dict[str, float]:
    """Return microseconds of one of many tiny operations in a row, and of one that is waited for."""
    value = torch.zeros(1, device=device)

    def many() -> None:
        for _ in range(1000):
            value.add_(1)

    return {"in_a_row": seconds_of(many, device) * 1e3, "waited_for": seconds_of(lambda: value.add_(1), device) * 1e6}
