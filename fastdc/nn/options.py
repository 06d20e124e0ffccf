"""Choices that settings name, and what `auto` means; apart from the code that needs torch."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


def resolve_precision(precision: Precision, device: str) -> str:
    """What `auto` means on a device of this type."""
    if precision != "auto":
        return precision
    return "bf16" if device == "cuda" else "fp32"


def guess_device() -> Device:
    """Where torch will compute, found out without importing it (2 s)."""
    try:
        build = version("torch")
    except PackageNotFoundError:
        return "cpu"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return "cuda" if Path("/dev/nvidiactl").exists() and "+cpu" not in build and not hidden else "cpu"
