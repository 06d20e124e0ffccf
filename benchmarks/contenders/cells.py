"""Contenders for a complete hard-label evaluation: fastdc's `evaluate`, and the training loop of the released code.

Both train the same architecture from the same weights for the same epochs in fp32 with AdamW and a cosine per epoch.
They validate after the same epochs and have the same number of CPU threads. `rethinkdc`'s loop is a reimplementation
from its description: NCHW, PIL for every image, workers that restart in every epoch, three meters read with `.item()`
at every step, a per-class loop over Python numbers in validation, validation batches of a quarter of the size. Its
reports to a web service are left out.
"""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from harness.race import Outcome
from torch import nn

from contenders.torchvision_loader import train_loader, val_loader
from fastdc.nn.models import build_model, decay_weights_only
from fastdc.train import EvaluateSettings, get_protocol
from fastdc.train.evaluation import evaluate

LEARNING_RATE, WEIGHT_DECAY, BATCH = 1e-3, 0.01, 128


class Cell:
    """Settings that both sides share.

    Args:
        arch: architecture. size: side of the views in pixels. epochs: length of the training, validated after the
            first and the last epoch. threads: CPU threads of torch. device: "cpu" or "cuda".
    """

    def __init__(self, arch: str, size: int, epochs: int, threads: int, device: str = "cpu") -> None:
        self.arch, self.size, self.epochs, self.threads, self.device = arch, size, epochs, threads, device
        self.workers = 1
        self.seed = 0

    def prepare(self, workers: int) -> None:
        """Set the threads of torch and the number of loader workers."""
        torch.set_num_threads(self.threads)
        self.workers = workers

    def check(self) -> dict[str, Any]:
        """Check nothing; the facts hold the accuracies."""
        return {}


class Ours(Cell):
    """Cell trained by fastdc."""

    def __init__(self, subset: str, val: str, **shared: Any) -> None:
        super().__init__(**shared)
        self._subset, self._val = Path(subset), Path(val)

    def repeat(self, share: float) -> Outcome:
        """Train a cell with the next seed; a share below 1 shortens it."""
        epochs = max(round(self.epochs * share), 2)
        settings = EvaluateSettings(
            protocol=get_protocol("hard", {"epochs": epochs, "validate_every": epochs}),
            arch=self.arch,
            seed=self.seed,
            precision="fp32",
            threads=self.threads,
            image_size=self.size,
            loader_workers=self.workers,
        )
        self.seed += 1
        result = evaluate(self._subset, self._val, settings)
        facts = {"top1": result.top1, "steps": result.steps, "images": result.images, "device": result.device}
        return Outcome(share * 3600, facts=lambda: facts)


class Rethinkdc(Cell):
    """Cell trained by the released code's loop."""

    def __init__(self, subset: str, val: str, classes: int, **shared: Any) -> None:
        super().__init__(**shared)
        self._subset, self._val, self._classes = subset, val, classes

    def repeat(self, share: float) -> Outcome:
        """Train a cell with the next seed; a share below 1 shortens it."""
        epochs = max(round(self.epochs * share), 2)
        torch.manual_seed(self.seed)
        model = build_model(self.arch, self._classes, self.size, self.seed).to(self.device)
        model = model.to(memory_format=torch.contiguous_format)
        self.seed += 1
        train = train_loader(self._subset, self.size, BATCH, self.workers)
        val = val_loader(self._val, self.size, BATCH, self.workers)
        optimizer = torch.optim.AdamW(decay_weights_only(model, WEIGHT_DECAY), lr=LEARNING_RATE)
        half_wave = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        )
        top1 = 0.0
        for epoch in range(epochs):
            train_epoch(model, train, optimizer, self.device)
            if epoch in (0, epochs - 1):
                top1 = validate(model, val, self.device)
            half_wave.step()
        facts = {"top1": top1, "steps": epochs * len(train), "images": len(train.dataset), "device": self.device}  # type: ignore[arg-type]
        return Outcome(share * 3600, facts=lambda: facts)


class Meter:
    """Running mean."""

    def __init__(self) -> None:
        self.total, self.count, self.mean = 0.0, 0, 0.0

    def update(self, value: float, count: int) -> None:
        """Add `count` samples of mean `value`."""
        self.total += value * count
        self.count += count
        self.mean = self.total / self.count


class Meters:
    """Meters of loss, top-1 and top-5, each read from the device immediately, as in the released code."""

    def __init__(self) -> None:
        self.loss, self.top1, self.top5 = Meter(), Meter(), Meter()

    def update(self, loss: torch.Tensor, output: torch.Tensor, target: torch.Tensor) -> None:
        """Add a batch."""
        count = len(target)
        _, guesses = output.topk(5, 1, True, True)
        right = guesses.t().eq(target.reshape(1, -1).expand(5, count))
        shares = [right[:k].reshape(-1).float().sum(0).mul_(100.0 / count) for k in (1, 5)]
        self.loss.update(loss.item(), count)
        self.top1.update(shares[0].item(), count)
        self.top5.update(shares[1].item(), count)


def train_epoch(model: nn.Module, loader: Any, optimizer: torch.optim.Optimizer, device: str) -> None:
    """Train one epoch."""
    model.train()
    meters, criterion = Meters(), nn.CrossEntropyLoss()
    for data, target in loader:
        data, target = data.to(device), target.to(device)
        output = model(data)
        loss = criterion(output, target)
        meters.update(loss, output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def validate(model: nn.Module, loader: Any, device: str) -> float:
    """Return top-1 in percent; the loop over samples that counts classes belongs to the released code."""
    model.eval()
    meters, criterion = Meters(), nn.CrossEntropyLoss()
    right: dict[int, int] = defaultdict(int)
    total: dict[int, int] = defaultdict(int)
    for data, target in loader:
        data, target = data.to(device), target.to(device)
        output = model(data)
        meters.update(criterion(output, target), output, target)
        correct = output.max(1)[1] == target
        for place in range(len(target)):
            label = int(target[place].item())
            right[label] += int(correct[place].item())
            total[label] += 1
    return meters.top1.mean
