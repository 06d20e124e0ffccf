"""DWA's directed weight adjustment (Du et al., NeurIPS 2024): teachers pushed away from the batch to be optimised."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from fastdc.nn.device import Compute
from fastdc.recover.recovery_job import BatchStart
from fastdc.teachers.network import freeze


def adjusted(teachers: Sequence[nn.Module], batch: BatchStart, steps: int, radius: float) -> list[nn.Module]:
    """Return copies of the teachers after `steps` steps of gradient ascent on the batch's cross entropy.

    theta <- theta + (radius / steps) x g / ||g||, with g over all weights. All steps use the batch's one view and
    BatchNorm in eval mode. The copies are frozen and live as long as their batch; the teachers are not changed. (The
    paper's code keeps one perturbed network through all batches of an index, so its perturbations add up.)

    Args:
        teachers: networks to copy.
        batch: the batch before its first iteration.
        steps: K, at least 1.
        radius: rho, total length of the steps in weight space.
    """
    return [_adjusted(teacher, batch, steps, radius) for teacher in teachers]


def _adjusted(teacher: nn.Module, batch: BatchStart, steps: int, radius: float) -> nn.Module:
    network = copy.deepcopy(teacher).eval().requires_grad_(True)
    weights = list(network.parameters())
    images = batch.view(batch.images, batch.images.shape[2]).contiguous(memory_format=torch.channels_last)
    for _ in range(steps):
        logits = _wide_enough(batch.compute).logits(network, images)
        # A forward pass need not use every weight; unused ones get no gradient and stay as they are.
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
    """Return the recovery's compute, with float32 in place of fp16.

    Gradients of early layers underflow in fp16. The recovery scales its loss to avoid that; for the few steps here,
    float32 costs no noticeable time.
    """
    return replace(compute, precision="fp32") if compute.precision == "fp16" else compute
