"""DWA's directed weight adjustment (Du et al., NeurIPS 2024): teachers pushed away from the images that are to come."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from fastdc.nn.device import Compute
from fastdc.nn.teacher import freeze
from fastdc.recover.job import BatchStart


def adjusted(teachers: Sequence[nn.Module], batch: BatchStart, steps: int, radius: float) -> list[nn.Module]:
    """Copies of the teachers after `steps` steps of gradient ascent on the batch's cross entropy.

    theta <- theta + (radius / steps) x g / ||g||, with g over all weights, all on the batch's one view and with
    BatchNorm in eval mode. The copies are frozen, and live as long as their batch; the teachers stay as they are. (The
    paper's code goes on with one perturbed network through the batches of an index, so that perturbations add up.)

    Args:
        steps: K, at least 1.
        radius: rho, length of the whole way in weight space.
    """
    return [_adjusted(teacher, batch, steps, radius) for teacher in teachers]


def _adjusted(teacher: nn.Module, batch: BatchStart, steps: int, radius: float) -> nn.Module:
    network = copy.deepcopy(teacher).eval().requires_grad_(True)
    weights = list(network.parameters())
    images = batch.view(batch.images, batch.images.shape[2]).contiguous(memory_format=torch.channels_last)
    for _ in range(steps):
        logits = _wide_enough(batch.compute).logits(network, images)
        gradients = torch.autograd.grad(functional.cross_entropy(logits, batch.labels), weights, allow_unused=True)
        found = [
            (weight, gradient) for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None
        ]
        norm = torch.nn.utils.get_total_norm([gradient for _, gradient in found]).clamp(min=1e-12)
        with torch.no_grad():
            for weight, gradient in found:
                weight.add_(gradient * (radius / steps / norm))
    return freeze(network, batch.compute.device)


def _wide_enough(compute: Compute) -> Compute:
    """As the recovery computes; but in float32 instead of fp16, where gradients of early layers are too small for it.

    The recovery scales its loss against that. Here a few steps are all, so that their time does not matter.
    """
    return replace(compute, precision="fp32") if compute.precision == "fp16" else compute
