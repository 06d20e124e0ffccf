"""Moments and densification on CUDA, which use other code there, against float64 on the CPU."""

import pytest
import torch
from torch import Tensor

from fastdc.recover.image_losses import densification
from fastdc.recover.layer_statistics import batch_moments, image_moments
from tests.gpu.test_device_engine import no_cuda


def with_gradient(values: Tensor, patch: int) -> list[Tensor]:
    """Moments of the batch, their gradient by uneven weights, and the moments of its images."""
    values = values.detach().requires_grad_()
    moments = batch_moments(values, patch)
    weights = torch.arange(1, len(moments.mean) + 1, device=values.device)
    (moments.mean * weights).sum().add((moments.variance * weights.flip(0)).sum()).backward()
    assert values.grad is not None
    return [*moments, values.grad, *image_moments(values.detach(), patch)]


@pytest.mark.gpu
@no_cuda
@pytest.mark.parametrize("patch", [0, 4])
def test_moments_on_cuda(patch: int) -> None:
    values = torch.randn(4, 6, 10, 10, generator=torch.Generator().manual_seed(0)) + 3
    layout = values.cuda().contiguous(memory_format=torch.channels_last)
    for found, wanted in zip(with_gradient(layout, patch), with_gradient(values.double(), patch), strict=True):
        torch.testing.assert_close(found.cpu().double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@no_cuda
def test_densification_on_cuda_ignores_autocast() -> None:
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.05
    labels = torch.tensor([0, 0, 1, 1])
    with torch.autocast("cuda", dtype=torch.float16):
        found = densification(images.cuda(), labels.cuda())
    torch.testing.assert_close(found.cpu().double(), densification(images.double(), labels), rtol=1e-3, atol=1e-4)
