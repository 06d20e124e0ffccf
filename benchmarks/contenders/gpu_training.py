"""Contenders: training steps on a device, fed by fastdc or by torchvision's loader, with the device's utilisation."""

import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from harness.race import Outcome
from torch import nn
from torchvision import models

from contenders.torchvision_loader import train_loader
from fastdc.loader import TrainView, open_loader
from fastdc.nn.device import Compute

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


class Training(ABC):
    """Runner of ResNet-18 epochs (bf16, channels_last, SGD); subclasses supply the batches."""

    def __init__(self, size: int, device: str, batch_size: int, epochs: int = 3) -> None:
        self.size, self.device, self.batch_size, self._epochs = size, torch.device(device), batch_size, epochs
        model: nn.Module = models.resnet18(num_classes=10).to(self.device)
        self._model = model.to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.1, momentum=0.9)
        self._next = 0

    @abstractmethod
    def prepare(self, workers: int) -> None:
        """Open the loader."""

    @abstractmethod
    def epoch(self, number: int) -> Batches:
        """Return an iterator over batches on the device: float32 [B, 3, S, S], int64 [B]."""

    def repeat(self, share: float) -> Outcome:
        """Train some epochs, whatever the share, and wait until the device is done."""
        images = 0
        with BusyMeter(self.device) as meter:
            for _ in range(self._epochs):
                for batch, labels in self.epoch(self._next):
                    self._step(batch, labels)
                    images += len(labels)
                self._next += 1
            self._wait()
        return Outcome(images, facts=lambda: {"images": images, "gpu_busy_percent": meter.percent})

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(self._model(images).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def check(self) -> dict[str, Any]:
        """Report which device was used."""
        return {"gpu": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "none"}


class Ours(Training):
    """Training fed by fastdc; with engine "device" the set is kept in the device's memory and augmented there."""

    def __init__(self, beton: str, engine: str, size: int, device: str, batch_size: int, epochs: int = 3) -> None:
        super().__init__(size, device, batch_size, epochs)
        self._beton, self._engine = Path(beton), engine
        self._compute = Compute(self.device, "bf16", torch.get_num_threads())
        self._loader: Any = None

    def prepare(self, workers: int) -> None:
        """Open the loader; it makes 8-bit batches, which the device converts to floats."""
        settings: dict[str, Any] = {"engine": self._engine, "device": self.device, "workers": workers}
        self._loader = open_loader(
            self._beton, TrainView(self.size), batch_size=self.batch_size, shuffle=True, **settings
        )

    def epoch(self, number: int) -> Batches:
        """See the base class."""
        for images, labels, _ in self._loader.epoch(number):
            yield self._compute.images(images), labels.to(self.device, non_blocking=True)


class Torchvision(Training):
    """Training fed by torchvision's loader, with non-blocking copies from pinned memory, which rethinkdc lacks."""

    def __init__(self, folder: str, size: int, device: str, batch_size: int, epochs: int = 3) -> None:
        super().__init__(size, device, batch_size, epochs)
        self._folder = folder
        self._loader: Any = None

    def prepare(self, workers: int) -> None:
        """Open the loader."""
        self._loader = train_loader(self._folder, self.size, self.batch_size, workers)

    def epoch(self, number: int) -> Batches:
        """See the base class."""
        for images, labels in self._loader:
            moved = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            yield moved, labels.to(self.device, non_blocking=True)


class BusyMeter:
    """Context manager that averages nvidia-smi's utilisation; `percent` is None without nvidia-smi."""

    def __init__(self, device: torch.device) -> None:
        program = shutil.which("nvidia-smi") if device.type == "cuda" else None
        self._command = [program, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
        self._process: subprocess.Popen[str] | None = None
        self.percent: float | None = None

    def __enter__(self) -> "BusyMeter":
        if self._command[0] is not None:
            command = [part for part in self._command if part is not None]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *problem: object) -> None:
        if self._process is None:
            return
        time.sleep(0.2)  # one more sampling period, so that even a short block has a sample
        self._process.terminate()
        lines = self._process.communicate()[0].split()
        values = [float(line) for line in lines if line.replace(".", "", 1).isdigit()]
        self.percent = round(sum(values) / len(values), 1) if values else None
