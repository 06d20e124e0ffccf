"""Where and how precisely a network computes."""

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

import fastdc
from fastdc.errors import ConfigError
from fastdc.float32 import set_float32
from fastdc.loader.views import IMAGENET_MEAN, IMAGENET_STD
from fastdc.nn.head import widen_head
from fastdc.nn.options import (
    Precision,
    check_precision,
    cpu_name,
    installed_version,
    precision_key,
    resolve_precision,
)
from fastdc.threads import keep_freed_memory, set_compute_threads, usable_cpus

SMALLEST_SCALE = 2.0**-10
"""Of fp16's gradients. It begins at 2**16 and is halved with every step that is skipped: below, none was taken."""

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device with a precision.

    Attributes:
        device: cpu or cuda.
        precision: fp32 (IEEE), tf32 (float32 with TF32 products, CUDA only), bf16 or fp16; the last two are autocast.
        threads: torch CPU threads.
    """

    device: torch.device
    precision: str
    threads: int

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context that the forward pass runs in. What float32 means is set until another precision computes.

        So the backward pass that follows computes alike.
        """
        set_float32("tf32" if self.precision == "tf32" else "ieee")
        if self.precision not in AUTOCAST:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=AUTOCAST[self.precision])

    def logits(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return a network's logits, float32 [B, C], of images [B, 3, S, S]; every forward pass goes through here.

        Under autocast the last layer computes in float32 from its reduced input. Logits rounded to bf16 tie.

        Raises:
            ConfigError: the network does not end in a linear layer or convolution, so that its logits are not float32.
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
        """What computed, for the record: precision, threads, device with its model, and versions."""
        return {
            "precision": self.precision,
            "threads": self.threads,
            "device": self.device_name,
            "machine": self.machine,
            "environment": {**environment(), **({"gpu": self.machine} if self.device.type == "cuda" else {})},
        }

    @property
    def machine(self) -> str:
        """Model of the GPU, or of the CPU, that computes."""
        return self.device_name if self.device.type == "cuda" else cpu_name()

    @property
    def key(self) -> str:
        """The precision as content keys name it."""
        return precision_key(self.precision, self.device.type)

    @property
    def device_name(self) -> str:
        """ "cpu", or the CUDA device's product name."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def choose_compute(precision: Precision, threads: int) -> Compute:
    """CUDA when there is one, else the CPU; `auto` precision is bf16 on CUDA and fp32 on CPU; sets torch's threads.

    Raises:
        ConfigError: see `check_precision`.
    """
    threads = threads or usable_cpus()
    set_compute_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        keep_freed_memory()
    resolved = resolve_precision(precision, device.type)
    check_precision(resolved, device.type, torch.cuda.get_device_capability() if device.type == "cuda" else None)
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
    packages = ("torch", "torchvision", "numpy", "numba", "ffcv", "simplejpeg", "pillow")
    versions = {name: installed_version(name) for name in packages}
    return {
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "system": platform.system(),
        "fastdc": fastdc.__version__,
        **versions,
    }
