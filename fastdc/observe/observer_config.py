"""Settings of the observer's training. Imports no torch."""

from typing import Any, Self

from pydantic import Field

from fastdc.common.choices import DeviceChoice, Precision
from fastdc.common.machine import guess_device
from fastdc.common.precision import NUMERICS_VERSION, PAPER_PRECISION, precision_key, resolve_precision
from fastdc.common.settings import Settings
from fastdc.common.threads import usable_cpus

OBSERVER_VERSION = 2
"""Raised whenever the same settings would give other dynamics; part of every cache key."""


class ObserverConfig(Settings):
    """Settings of a training on the full set; defaults follow CCS's ImageNet proxy, with the benchmark's ResNet-18.

    Attributes:
        arch: architecture name (`fastdc.nn.arch_names`).
        epochs: length of the cosine schedule in epochs; training may stop earlier (`stop_after` of `observe`).
        batch_size: images per step.
        lr: SGD's learning rate at the start of a half cosine, which is updated every step.
        lr_min: learning rate at its end.
        momentum: SGD's momentum.
        weight_decay: SGD's weight decay, of every parameter.
        image_size: side of the training crops in pixels (RandomResizedCrop(0.08, 1) and flip).
        precision: fp32 is IEEE; tf32, bf16 and fp16 are faster on a GPU; `auto` is bf16 on GPUs with it, else fp32.
        device: `auto` is CUDA where available.
        threads: CPU threads of torch; 0 takes every usable CPU. Part of the identity on CPU only.
        seed: root seed; each run derives its own from it.
        runs: number of independent trainings; scores average over them.
    """

    arch: str = "resnet18"
    epochs: int = Field(60, ge=1)
    batch_size: int = Field(256, ge=2)
    lr: float = Field(0.1, gt=0)
    lr_min: float = Field(1e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    image_size: int = Field(224, ge=8)
    precision: Precision = "auto"
    device: DeviceChoice = "auto"
    threads: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)
    runs: int = Field(1, ge=1)

    @property
    def summary(self) -> str:
        """Describe this training in a table's words, so that a reader can compare it with a paper's."""
        runs = f", {self.runs} runs" if self.runs > 1 else ""
        precision = self.resolved().precision
        computed = "" if precision == PAPER_PRECISION else f", {precision}"
        return f"{self.arch}, schedule of {self.epochs} epochs, {self.image_size} px{computed}{runs}"

    def resolved(self) -> Self:
        """Return a copy with `auto` and 0 replaced by their values on this machine."""
        device = guess_device() if self.device == "auto" else self.device
        threads = self.threads or usable_cpus()
        precision = resolve_precision(self.precision, device)
        return self.model_copy(update={"device": device, "precision": precision, "threads": threads})

    def numerics(self) -> dict[str, Any]:
        """Return the identity's fields on a resolved observer's arithmetic; empty for fp32 on a CPU."""
        plain = precision_key(self.precision, self.device) == self.precision
        return {} if plain else {"numerics": NUMERICS_VERSION}

    def identity(self, train_hash: str, run: int) -> dict[str, Any]:
        """Return everything that one run's dynamics depend on, as plain data; `runs` is not part of it."""
        resolved = self.resolved()
        values = resolved.model_dump(exclude={"runs"})
        if values["device"] == "cuda":
            values["threads"] = 0  # CPU threads do not change what a GPU computes
        values |= resolved.numerics()
        return {"version": OBSERVER_VERSION, "train": train_hash, "run": run, **values}
