"""Resolve, check and name the precision of a training. Imports no torch."""

import os

from fastdc.common.choices import Precision
from fastdc.common.errors import ConfigError
from fastdc.common.machine import gpu_capability

PAPER_PRECISION = "fp32"
"""Precision of the benchmark whose protocols fastdc follows."""
AMPERE = (8, 0)
"""CUDA compute capability of the first GPUs with TF32 and bf16; torch emulates bf16 on older ones, slowly."""
NUMERICS_VERSION = 2
"""Raised whenever a precision's arithmetic changes. 2: fp32 on CUDA is IEEE, and logits are computed in float32."""


def resolve_precision(precision: Precision, device: str) -> str:
    """Resolve `auto` for a device type, where a GPU is the first that this process sees; see `auto_precision`."""
    if precision != "auto":
        return precision
    return auto_precision(gpu_capability()) if device == "cuda" else "fp32"


def auto_precision(capability: tuple[int, int] | None) -> Precision:
    """Return what `auto` means on a GPU of a compute capability: bf16 where it has that, else fp32.

    fp16 is never chosen: on GPUs before Ampere it is faster, but its narrow range can overflow. A GPU of unknown
    capability is assumed to have bf16.
    """
    return "bf16" if (capability or AMPERE) >= AMPERE else "fp32"


def check_precision(precision: str, device: str, capability: tuple[int, int] | None = None) -> None:
    """Check that a device supports a resolved precision.

    Args:
        capability: compute capability of the GPU, where known.

    Raises:
        ConfigError: fp16 on a CPU, for which torch has no fp16 convolutions for training. TF32 on a CPU, or where
            NVIDIA_TF32_OVERRIDE turns it off. TF32 or bf16 on a GPU before Ampere.
    """
    if device == "cpu" and precision in ("fp16", "tf32"):
        raise ConfigError(f"precision {precision}: needs a CUDA device, found only the CPU; use fp32, bf16 or auto")
    if precision in ("tf32", "bf16") and capability is not None and capability < AMPERE:
        found, instead = ".".join(map(str, capability)), "fp32" if precision == "tf32" else "fp16 or fp32"
        raise ConfigError(
            f"precision {precision}: this GPU has compute capability {found}, expected 8.0 or higher; use {instead}"
        )
    if precision == "tf32" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        raise ConfigError("precision tf32: NVIDIA_TF32_OVERRIDE=0 turns it off; unset it, or use fp32")


def precision_key(precision: str, device: str) -> str:
    """Return a resolved precision as content keys name it, with the version of its arithmetic.

    fp32 on a CPU has no version, because its arithmetic has never changed.
    """
    return precision if (precision, device) == ("fp32", "cpu") else f"{precision}/{NUMERICS_VERSION}"


def precision_label(precision: str, compiled: bool) -> str:
    """Return a resolved precision as rows name it; trainings through torch.compile have rows of their own."""
    return f"{precision} compiled" if compiled else precision


def shown_precision(precision: str) -> str:
    """Return a precision as tables show it, followed by the paper's where they differ."""
    return precision if precision == PAPER_PRECISION else f"{precision} (paper: {PAPER_PRECISION})"
