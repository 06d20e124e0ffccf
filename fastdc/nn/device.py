"""Where and how precisely a network computes."""

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from fastdc.errors import ConfigError
from fastdc.loader.views import IMAGENET_MEAN, IMAGENET_STD
from fastdc.nn.options import Precision, installed_version, resolve_precision
from fastdc.threads import set_compute_threads, usable_cpus

SMALLEST_SCALE = 2.0**-10
"""Of fp16's gradients. It begins at 2**16 and is halved with every step that is skipped: below, none was taken."""

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device with a precision.

    Attributes:
        device: cpu or cuda.
        precision: fp32, bf16 or fp16; the last two are autocast.
        threads: torch CPU threads.
    """

    device: torch.device
    precision: str
    threads: int

    def autocast(self) -> AbstractContextManager[Any]:
        """The context that the forward pass runs in."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=AUTOCAST[self.precision])

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling; only fp16 needs it, elsewhere it passes through."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Images as a network takes them: float32 [B, 3, S, S], channels_last, normalised with ImageNet's mean and std.

        Args:
            images: uint8 [B, S, S, 3]; or what is to come out, from a loader with `output="float32"`.
        """
        if images.dtype != torch.uint8:
            return images.to(self.device, non_blocking=True)
        shift, scale = self._normalisation
        return (images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() - shift).mul_(scale)

    @cached_property
    def _normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Shift and scale of 8-bit levels, float32 [1, 3, 1, 1] on the device; uploaded once, not per batch."""
        shift = torch.tensor(IMAGENET_MEAN, device=self.device).mul_(255).view(1, 3, 1, 1)
        scale = torch.tensor(IMAGENET_STD, device=self.device).mul_(255).reciprocal_().view(1, 3, 1, 1)
        return shift, scale

    def told(self) -> dict[str, Any]:
        """What computed, for the record: precision, threads, device and versions."""
        return {
            "precision": self.precision,
            "threads": self.threads,
            "device": self.device_name,
            "environment": environment(),
        }

    @property
    def device_name(self) -> str:
        """ "cpu", or the CUDA device's product name."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def choose_compute(precision: Precision, threads: int) -> Compute:
    """CUDA when there is one, else the CPU; `auto` precision is bf16 on CUDA and fp32 on CPU; sets torch's threads.

    Raises:
        ConfigError: fp16 asked for on a CPU, where its convolutions are not built for training.
    """
    threads = threads or usable_cpus()
    set_compute_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resolved = resolve_precision(precision, device.type)
    if resolved == "fp16" and device.type == "cpu":
        raise ConfigError("precision fp16: needs a CUDA device, found only the CPU; use fp32, bf16 or auto")
    return Compute(device, resolved, threads)


def no_scale_left(scaler: torch.amp.GradScaler) -> bool:
    """Whether gradients are infinite at any scale, so that every step is skipped. Reads the device."""
    return scaler.is_enabled() and scaler.get_scale() < SMALLEST_SCALE


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short. torch has a class for CUDA's memory, and words alone for the CPU's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("allocate memory", "out of memory")
    )


def environment() -> dict[str, Any]:
    """Versions that a result depends on, and the machine's CPU."""
    packages = ("fastdc", "torch", "torchvision", "numpy", "numba", "ffcv", "simplejpeg", "pillow")
    versions = {name: installed_version(name) for name in packages}
    return {"python": platform.python_version(), "cpu": _cpu_name(), "system": platform.system(), **versions}


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as handle:
            names = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
