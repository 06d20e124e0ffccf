"""A small network, and definitions of moments and patches in numpy float64."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


def small_net(seed: int = 0) -> nn.Sequential:
    """Return two convolutions and two BatchNorms with uneven running statistics, float64, eval mode, frozen."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).double()  # fmt: skip
    for norm in (net[1], net[5]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return net.eval().requires_grad_(False)


def inputs_of(net: nn.Sequential, images: Tensor, layer: int) -> Array:
    """Return the input of layer number `layer`, float64 [N, C, H, W]."""
    with torch.no_grad():
        return net[:layer](images).double().numpy()


def channel_moments(values: Array) -> tuple[Array, Array]:
    """Return mean and biased variance of every channel, [C]."""
    return row_moments(values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1))


def patch_moments(values: Array, patch: int) -> tuple[Array, Array]:
    """Return moments of every place in a grid of patches, [P], over images, channels and pixels."""
    places = [
        values[:, :, top : top + patch, left : left + patch].reshape(-1)
        for top in range(0, values.shape[2], patch)
        for left in range(0, values.shape[3], patch)
    ]
    return row_moments(np.stack(places))


def row_moments(rows: Array) -> tuple[Array, Array]:
    mean = rows.sum(1) / rows.shape[1]
    return mean, ((rows - mean[:, None]) ** 2).sum(1) / rows.shape[1]


def norm_moments(norm: nn.Module) -> tuple[Array, Array]:
    """Return a BatchNorm's running statistics."""
    return norm.running_mean.double().numpy(), norm.running_var.double().numpy()


def gap(
    found: tuple[Array, Array], wanted: tuple[Array, Array], mean_weight: float = 1, variance_weight: float = 1
) -> float:
    """Return the weighted L2 distance of means plus that of variances."""
    first, second = (float(np.sqrt(((a - b) ** 2).sum())) for a, b in zip(found, wanted, strict=True))
    return mean_weight * first + variance_weight * second
