"""Device and numeric precision of a network's computation."""

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from fastdc._version import __version__
from fastdc.common.choices import DeviceChoice, Precision
from fastdc.common.errors import ConfigError
from fastdc.common.float32 import set_float32
from fastdc.common.machine import cpu_name, installed_version
from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.common.precision import check_precision, precision_key, resolve_precision
from fastdc.common.threads import keep_freed_memory, set_compute_threads, usable_cpus
from fastdc.common.transfer import send
from fastdc.nn.float32_head import widen_head

SMALLEST_SCALE = 2.0**-10
"""Smallest loss scale of fp16 training. It starts at 2**16, and every skipped step halves it."""

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """Device, precision and thread count of a computation.

    Attributes:
        device: cpu or cuda.
        precision: fp32 (IEEE), tf32 (float32 with TF32 products, CUDA only), bf16 or fp16; the last two use autocast.
        threads: torch CPU threads.
    """

    device: torch.device
    precision: str
    threads: int

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context manager for a forward pass, and set the process-wide float32 mode (IEEE or TF32).

        The mode stays set after the context ends, so that the backward pass uses it too.
        """
        set_float32("tf32" if self.precision == "tf32" else "ieee")
        if self.precision not in AUTOCAST:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=AUTOCAST[self.precision])

    def logits(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return a network's logits, float32 [B, C], for images [B, 3, S, S]; every forward pass uses this method.

        Under autocast the last layer computes in float32 from its reduced input, because logits rounded to bf16 tie.

        Raises:
            ConfigError: the logits are not float32 under autocast, because the network does not end in a linear layer
                or convolution.
        """
        reduced = self.precision in AUTOCAST
        if reduced:
            widen_head(model)
        with self.autocast():
            found: torch.Tensor = model(images)
        if reduced and found.dtype != torch.float32:
            raise ConfigError(
                f"{type(model).__name__}: its logits are {found.dtype} under precision {self.precision}, expected "
                "float32 of a linear layer or convolution at its end; use precision fp32"
            )
        return found.float()

    def scaler(self) -> torch.amp.GradScaler:
        """Return a gradient scaler, which passes values through unchanged unless the precision is fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Return network input: float32 [B, 3, S, S], channels_last, normalised with ImageNet's mean and std.

        Args:
            images: uint8 [B, S, S, 3]. Float images from a loader with `output="float32"` are ready, and only moved.
        """
        if images.dtype != torch.uint8:
            return send(images, self.device)
        # Bytes are uploaded, a quarter of float32's size. Permuting them on the device gives channels_last for free.
        shift, scale = self._normalisation
        return (send(images, self.device).permute(0, 3, 1, 2).float() - shift).mul_(scale)

    @cached_property
    def _normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return shift and scale of 8-bit levels, float32 [1, 3, 1, 1] on the device; uploaded once, not per batch.

        The upload has ended when it returns, because trainings on several streams share the tensors.
        """
        shift = torch.tensor(IMAGENET_MEAN).mul_(255).view(1, 3, 1, 1)
        scale = torch.tensor(IMAGENET_STD).mul_(255).reciprocal_().view(1, 3, 1, 1)
        return shift.to(self.device), scale.to(self.device)

    def facts(self) -> dict[str, Any]:
        """Return the record's fields on the computation: precision, threads, device and its model, and versions."""
        return {
            "precision": self.precision,
            "threads": self.threads,
            "device": self.device_name,
            "machine": self.machine,
            "environment": {**environment(), **({"gpu": self.machine} if self.device.type == "cuda" else {})},
        }

    @property
    def machine(self) -> str:
        """Return the model name of the GPU, or of the CPU where there is no GPU."""
        return self.device_name if self.device.type == "cuda" else cpu_name()

    @property
    def key(self) -> str:
        """Return the precision as it appears in content keys."""
        return precision_key(self.precision, self.device.type)

    @property
    def device_name(self) -> str:
        """Return "cpu", or the CUDA device's product name."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def choose_compute(precision: Precision, threads: int, device: DeviceChoice = "auto") -> Compute:
    """Choose the device, by default CUDA if available, else the CPU, and set torch's thread count.

    Args:
        precision: `auto` is bf16 on GPUs that have it (Ampere and later), and fp32 elsewhere.
        threads: CPU threads of torch; 0 for every usable CPU.
        device: `auto`, or a device that this machine has.

    Raises:
        ConfigError: see `check_precision`.
    """
    threads = threads or usable_cpus()
    set_compute_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        keep_freed_memory()  # or the kernel would clear the same pages again at every step
    resolved = resolve_precision(precision, device)
    check_precision(resolved, device, torch.cuda.get_device_capability() if device == "cuda" else None)
    return Compute(torch.device(device), resolved, threads)


def no_scale_left(scaler: torch.amp.GradScaler) -> bool:
    """Return whether fp16 gradients overflow at every loss scale, so that no step is taken; waits for the device."""
    return scaler.is_enabled() and scaler.get_scale() < SMALLEST_SCALE


def environment() -> dict[str, Any]:
    """Return the versions that a result depends on, and the machine's CPU and system."""
    packages = ("torch", "torchvision", "numpy", "numba", "ffcv", "simplejpeg", "pillow")
    versions = {name: installed_version(name) for name in packages}
    return {
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "system": platform.system(),
        "fastdc": __version__,
        **versions,
    }
