"""DWA's directed weight adjustment against its formula in float64."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from fastdc.nn.device import Compute
from fastdc.nn.models import build_model
from fastdc.recover.recovery_job import BatchStart
from fastdc.recover.recovery_recipe import Recipe
from fastdc.recover.shared_view import draw_view
from fastdc.recover.weight_adjustment import adjusted
from fastdc.teachers.network import Teacher


@pytest.mark.parametrize("steps", [1, 5])
def test_weights_follow_the_formula(
    teacher: Teacher, compute: Compute, fashion: tuple[np.ndarray, np.ndarray], steps: int
) -> None:
    images, labels = compute.images(torch.from_numpy(fashion[0][:12])), torch.from_numpy(fashion[1][:12])
    view = draw_view(Recipe(jitter=3), 1, 0, 0, 28)
    before = [weight.clone() for weight in teacher.model.parameters()]
    (network,) = adjusted([teacher.model], BatchStart(images, labels, view, compute), steps, 0.5)

    reference = build_model(teacher.arch, 10, 28, 0).double()
    reference.load_state_dict({name: value.double() for name, value in teacher.model.state_dict().items()})
    reference.eval()
    weights = list(reference.parameters())
    losses = []
    for _ in range(steps):
        loss = functional.cross_entropy(reference(view(images, 28).double()), labels)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, weights)
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))  # type: ignore[arg-type]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.data += 0.5 / steps * gradient / norm
    for found, expected in zip(network.parameters(), weights, strict=True):
        torch.testing.assert_close(found.double(), expected.detach(), rtol=1e-4, atol=1e-6)
        assert not found.requires_grad
    assert losses == sorted(losses)
    after = functional.cross_entropy(network(view(images, 28)), labels)
    assert after.item() > losses[0]

    moved = [(new - old).double() for new, old in zip(network.parameters(), before, strict=True)]
    assert float(torch.sqrt(sum((m**2).sum() for m in moved))) <= 0.5 + 1e-4  # type: ignore[arg-type]
    for weight, old in zip(teacher.model.parameters(), before, strict=True):
        assert torch.equal(weight, old)  # the teacher itself is unchanged
    for found, kept in zip(network.buffers(), teacher.model.buffers(), strict=True):
        assert torch.equal(found, kept)  # BatchNorm's running statistics too


def test_half_precision_loses_no_small_gradient(
    teacher: Teacher, compute: Compute, fashion: tuple[np.ndarray, np.ndarray]
) -> None:
    """A confident teacher gives gradients below fp16's range; the step still has length rho."""
    images, labels = compute.images(torch.from_numpy(fashion[0][:12])), torch.from_numpy(fashion[1][:12])
    sure = copy.deepcopy(teacher.model)
    sure[-1].weight.data *= 6  # type: ignore[index, union-attr, operator]
    view = draw_view(Recipe(crop_min=1.0, jitter=0), 1, 0, 0, 28)
    moved = []
    for precision in ("fp32", "fp16"):
        half = Compute(compute.device, precision, 1)
        (network,) = adjusted([sure], BatchStart(images, labels, view, half), 1, 0.5)
        pairs = zip(network.parameters(), sure.parameters(), strict=True)
        moved.append(torch.cat([(new - old).flatten() for new, old in pairs]))
    torch.testing.assert_close(moved[1], moved[0], rtol=1e-4, atol=1e-6)
    assert float(moved[1].norm()) == pytest.approx(0.5, rel=1e-3)
