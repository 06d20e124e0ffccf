"""Choices that settings name, and what `auto` means; apart from the code that needs torch."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue over ImageNet's training set, levels on the scale 0..1."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""


def resolve_precision(precision: Precision, device: str) -> str:
    """What `auto` means on a device of this type."""
    if precision != "auto":
        return precision
    return "bf16" if device == "cuda" else "fp32"


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
