"""Mean and variance of the inputs of a network's layers."""

import torch
from torch import Tensor, nn


class Statistics:
    """Statistics of layers' inputs over a training set (to come)."""


def norm_layers(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """The BatchNorm2d layers that keep running statistics, by their name within the model."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
    }


def batch_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel over batch, height and width, each [C], at least in float32.

    Args:
        values: [N, C, H, W].
    """
    values = values if values.dtype == torch.float64 else values.float()  # half precision overflows in sums of squares
    variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
    return mean, variance
