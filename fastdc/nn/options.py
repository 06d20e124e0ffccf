"""Choices that settings name, and what `auto` means; apart from the code that needs torch."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from fastdc.errors import ConfigError

Device = Literal["cpu", "cuda"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
PAPER_PRECISION = "fp32"
"""Of the benchmark that the protocols come from."""
TF32_CAPABILITY = (8, 0)
"""Of the first GPUs that multiply in TF32 (Ampere)."""
NUMERICS_VERSION = 2
"""Raised whenever a precision computes otherwise. 2: fp32 on CUDA is IEEE, and logits are computed in float32."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue over ImageNet's training set, levels on the scale 0..1."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""


def resolve_precision(precision: Precision, device: str) -> str:
    """What `auto` means on a device of this type."""
    if precision != "auto":
        return precision
    return "bf16" if device == "cuda" else "fp32"


def check_precision(precision: str, device: str, capability: tuple[int, int] | None = None) -> None:
    """Refuse a resolved precision that a device does not have.

    Args:
        capability: of the GPU, where it is known.

    Raises:
        ConfigError: fp16 on a CPU, where its convolutions are not built for training; TF32 on a CPU, on a GPU without
            the units for it, or where the environment turns it off.
    """
    if device == "cpu" and precision in ("fp16", "tf32"):
        raise ConfigError(f"precision {precision}: needs a CUDA device, found only the CPU; use fp32, bf16 or auto")
    if precision == "tf32" and capability is not None and capability < TF32_CAPABILITY:
        found = ".".join(map(str, capability))
        raise ConfigError(f"precision tf32: this GPU has compute capability {found}, expected 8.0 or higher; use fp32")
    if precision == "tf32" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        raise ConfigError("precision tf32: NVIDIA_TF32_OVERRIDE=0 turns it off; unset it, or use fp32")


def precision_key(precision: str, device: str) -> str:
    """Return how content keys name a resolved precision: with the version of its arithmetic.

    fp32 on a CPU is named without one. It computes as it always has.
    """
    return precision if (precision, device) == ("fp32", "cpu") else f"{precision}/{NUMERICS_VERSION}"


def tell_precision(precision: str) -> str:
    """Return a precision as tables show it, beside the paper's where it is another."""
    return precision if precision == PAPER_PRECISION else f"{precision} (paper: {PAPER_PRECISION})"


def cpu_name() -> str:
    """Return the model of this machine's CPU."""
    try:
        with open("/proc/cpuinfo") as handle:
            names = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def installed_version(package: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def guess_device() -> Device:
    """Where torch will compute, found out without importing it (2 s)."""
    build = installed_version("torch")
    if build is None:
        return "cpu"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return "cuda" if Path("/dev/nvidiactl").exists() and "+cpu" not in build and not hidden else "cpu"
