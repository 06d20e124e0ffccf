"""Device and precision settings, the meaning of `auto`, and input normalisation. Imports no torch."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from fastdc.errors import ConfigError

Device = Literal["cpu", "cuda"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
PAPER_PRECISION = "fp32"
"""Precision of the benchmark whose protocols fastdc follows."""
TF32_CAPABILITY = (8, 0)
"""CUDA compute capability of the first GPUs with TF32 (Ampere)."""
NUMERICS_VERSION = 2
"""Raised whenever a precision's arithmetic changes. 2: fp32 on CUDA is IEEE, and logits are computed in float32."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue over ImageNet's training set, on a scale from 0 to 1."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue, on the same scale."""


def resolve_precision(precision: Precision, device: str) -> str:
    """Resolve `auto` for a device type: bf16 on CUDA, fp32 on the CPU."""
    if precision != "auto":
        return precision
    return "bf16" if device == "cuda" else "fp32"


def check_precision(precision: str, device: str, capability: tuple[int, int] | None = None) -> None:
    """Check that a device supports a resolved precision.

    Args:
        capability: compute capability of the GPU, where known.

    Raises:
        ConfigError: fp16 on a CPU, for which torch has no fp16 convolutions for training. TF32 on a CPU, on a GPU
            before Ampere, or where NVIDIA_TF32_OVERRIDE turns it off.
    """
    if device == "cpu" and precision in ("fp16", "tf32"):
        raise ConfigError(f"precision {precision}: needs a CUDA device, found only the CPU; use fp32, bf16 or auto")
    if precision == "tf32" and capability is not None and capability < TF32_CAPABILITY:
        found = ".".join(map(str, capability))
        raise ConfigError(f"precision tf32: this GPU has compute capability {found}, expected 8.0 or higher; use fp32")
    if precision == "tf32" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        raise ConfigError("precision tf32: NVIDIA_TF32_OVERRIDE=0 turns it off; unset it, or use fp32")


def precision_key(precision: str, device: str) -> str:
    """Return a resolved precision as content keys name it, with the version of its arithmetic.

    fp32 on a CPU has no version, because its arithmetic has never changed.
    """
    return precision if (precision, device) == ("fp32", "cpu") else f"{precision}/{NUMERICS_VERSION}"


def tell_precision(precision: str) -> str:
    """Return a precision as tables show it, followed by the paper's where they differ."""
    return precision if precision == PAPER_PRECISION else f"{precision} (paper: {PAPER_PRECISION})"


def cpu_name() -> str:
    """Return the model name of this machine's CPU."""
    try:
        with open("/proc/cpuinfo") as handle:
            names = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def guess_device() -> Device:
    """Guess the device that torch will use, without the 2 s that its import takes."""
    build = installed_version("torch")
    if build is None:
        return "cpu"
    # /dev/nvidiactl exists while the driver is loaded, and only CPU wheels carry "+cpu" in their version.
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return "cuda" if Path("/dev/nvidiactl").exists() and "+cpu" not in build and not hidden else "cpu"
