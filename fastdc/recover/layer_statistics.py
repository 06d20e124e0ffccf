"""Mean and variance of the inputs of a network's layers: of a batch, and as measured over a training set."""

from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from fastdc.common.files import write_atomic


class Moments(NamedTuple):
    """Mean and biased variance of each channel (or patch), two float tensors of one shape."""

    mean: Tensor
    variance: Tensor


def norm_layers(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Return the BatchNorm2d layers that keep running statistics, by their name within the model."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
    }


def convolution_layers(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the Conv2d layers, by their name within the model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}


def as_patches(values: Tensor, patch: int) -> Tensor:
    """Group activations into patches of the map, [N, P, C * patch * patch], as in G-VBSM (Shao et al., CVPR 2024).

    A map whose sides are not multiples of `patch` is first enlarged bilinearly to the next multiples.

    Args:
        values: [N, C, H, W].
        patch: side of a patch, in units of the map.
    """
    height, width = (-(-side // patch) * patch for side in values.shape[2:])
    if (height, width) != tuple(values.shape[2:]):
        values = functional.interpolate(values, (height, width), mode="bilinear", align_corners=False)
    batch, channels = values.shape[:2]
    grid = values.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch * patch)


class _MeanAndVariance(torch.autograd.Function):
    """Mean and biased variance over some dimensions, with the gradient in one pass.

    On a CPU `torch.var_mean` takes three times as long, and its gradient twice.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if values.is_cuda:
            variance, mean = torch.var_mean(values, places, correction=0, keepdim=True)
        else:
            mean = values.mean(places, keepdim=True)
            variance = (values - mean).square_().mean(places, keepdim=True)
        ctx.save_for_backward(values, mean)
        ctx.places, ctx.count = places, values.numel() // mean.numel()
        return mean.squeeze(places), variance.squeeze(places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        values, mean = ctx.saved_tensors
        to_mean, to_variance = (gradient.reshape(mean.shape) / ctx.count for gradient in gradients)
        # d mean / dx = 1 / n and d variance / dx = 2 (x - mean) / n; addcmul folds both into one pass over x.
        scale = 2 * to_variance
        return torch.addcmul(to_mean - scale * mean, values, scale), None


def batch_moments(values: Tensor, patch: int = 0) -> Moments:
    """Return the moments of every channel [C] or of every patch [P] in a batch.

    Channels are averaged over batch, height and width; patches over batch, channels and pixels.

    Args:
        values: [N, C, H, W]; half precision is converted to float32, in which sums of squares do not overflow.
        patch: side of a patch, or 0 for channels.
    """
    values = _wide(values)
    if patch:
        return Moments(*_MeanAndVariance.apply(as_patches(values, patch), (0, 2)))
    return Moments(*_MeanAndVariance.apply(values, (0, 2, 3)))


def image_moments(values: Tensor, patch: int = 0) -> Moments:
    """Return `batch_moments` of every single image, [N, C] or [N, P]."""
    values = _wide(values)
    if patch:
        return Moments(*_MeanAndVariance.apply(as_patches(values, patch), (2,)))
    return Moments(*_MeanAndVariance.apply(values, (2, 3)))


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


class Statistics:
    """Moments of layers' inputs over a training set.

    Args:
        tensors: "LAYER/KIND/SCOPE/NAME", KIND channel or patch, NAME mean or variance: float32 [D] for SCOPE set,
            [C, D] for SCOPE class.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def of_set(self, layer: str, kind: str) -> Moments:
        """Return the moments over the whole set, each [D].

        Args:
            layer: name of the layer within the model.
            kind: `channel` or `patch`.
        """
        return Moments(*(self.tensors[f"{layer}/{kind}/set/{name}"] for name in Moments._fields))

    def of_classes(self, layer: str, kind: str, labels: Tensor) -> Moments:
        """Return the mean over a batch's images of their classes' moments, each [D].

        This is EDC's target; for a batch of one class, it is LPLD's.

        Args:
            layer, kind: see `of_set`.
            labels: int64 [B].
        """
        return Moments(*(self.tensors[f"{layer}/{kind}/class/{name}"][labels].mean(0) for name in Moments._fields))

    def to(self, device: torch.device) -> "Statistics":
        """Return the same statistics on a device."""
        return Statistics({name: value.to(device) for name, value in self.tensors.items()})

    def save(self, path: Path) -> None:
        """Write a safetensors file atomically."""
        write_atomic(path, safetensors.torch.save({name: value.contiguous() for name, value in self.tensors.items()}))
