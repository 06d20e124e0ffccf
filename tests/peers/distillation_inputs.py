"""Inputs of the official codes and of fastdc; formulas, so that `values/` holds only outputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CLASSES, CROPS, SIDE = 3, 3, 24
LABELS = (0, 2, 2, 1, 2, 0)


def values(name: str) -> dict[str, Any]:
    """Read the output of an official code: `values/distillation_NAME.json`."""
    return json.loads((Path(__file__).parent / "values" / f"distillation_{name}.json").read_text())


def formula(*shape: int, phase: float = 0.0) -> Tensor:
    """Return float64 numbers in (-1.5, 1.5) that repeat nowhere within a small tensor."""
    places = torch.arange(int(np.prod(shape)), dtype=torch.float64)
    return (torch.sin(places * 1.7 + phase) + 0.5 * torch.cos(places**1.5 * 0.31 + 2 * phase)).reshape(shape)


def images(count: int = len(LABELS), side: int = SIDE, phase: float = 0.0) -> Tensor:
    """Return normalised images, float64 [count, 3, side, side]."""
    return formula(count, 3, side, side, phase=phase)


class PlainNet(nn.Module):
    """Two convolutions and two BatchNorms, the first module a convolution; float64, eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.conv2, self.norm2 = nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)
        self.double()
        with torch.no_grad():
            for number, tensor in enumerate(self.parameters()):
                tensor.copy_(0.4 * formula(*tensor.shape, phase=1.0 + number))
            for number, norm in enumerate((self.norm1, self.norm2)):
                norm.running_mean.copy_(0.3 * formula(norm.num_features, phase=7.0 + number))
                norm.running_var.copy_(0.6 + 0.2 * formula(norm.num_features, phase=9.0 + number).abs())
        self.eval()

    def forward(self, batch: Tensor) -> Tensor:
        hidden = torch.relu(self.norm1(self.conv1(batch)))
        hidden = torch.relu(self.norm2(self.conv2(nn.functional.avg_pool2d(hidden, 2))))
        return self.head(hidden.mean((2, 3)))


def scene(number: int) -> np.ndarray:
    """Return training photo `number`, uint8 [40, 48, 3]: a coloured wave."""
    rows, columns = np.mgrid[0:40, 0:48]
    waves = [np.sin(rows / (3 + number % 5 + c) + number) + np.cos(columns / (4 + number % 3) - c) for c in range(3)]
    return np.clip(np.stack(waves, 2) * 60 + 128, 0, 255).astype(np.uint8)


def normalised(pixels: np.ndarray) -> Tensor:
    """Return uint8 [H, W, 3] as the networks take it, float64 [3, H, W]."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return torch.from_numpy(((pixels / 255 - mean) / std).transpose(2, 0, 1))
