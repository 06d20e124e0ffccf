"""Data densification against numpy float64."""

import numpy as np
import pytest
import torch

from fastdc.recover.image_losses import densification


def reference(images: np.ndarray, labels: list[int], temperature: float) -> float:
    """Compute pooling, Gram matrix, general eigenvalues (like the released code) and the divergence."""
    size = images.shape[2] // 32
    pooled = images.reshape(len(images), 3, 32, size, 32, size).mean((3, 5)).reshape(len(images), -1)
    total = 0.0
    for label in sorted(set(labels)):
        rows = pooled[np.array(labels) == label]
        spectrum = np.linalg.eigvals(rows @ rows.T).real
        log_sharp = spectrum - spectrum.max() - np.log(np.exp(spectrum - spectrum.max()).sum())
        soft = np.exp((spectrum - spectrum.max()) / temperature)
        soft /= soft.sum()
        total += float((soft * (np.log(np.maximum(soft, 1e-300)) - log_sharp)).sum())
    return total


@pytest.mark.parametrize("side", [32, 64])
def test_against_numpy(side: int) -> None:
    labels = [0, 0, 0, 4, 4, 1]
    images = torch.randn(6, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.05
    found = densification(images, torch.tensor(labels)).item()
    assert found > 0
    assert found == pytest.approx(reference(images.numpy(), labels, 4.0), rel=1e-9)
    single = densification(images.float(), torch.tensor(labels)).item()
    assert single == pytest.approx(found, rel=1e-4)


def test_gradient_by_hand() -> None:
    """The soft spectrum q takes no gradient: d KL / d e = p - q; d e_i / d X = 2 v_i v_i^T X, eigenvector v_i."""
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 0.02
    images.requires_grad_()
    densification(images, torch.zeros(3, dtype=torch.int64)).backward()
    rows = images.detach().numpy().reshape(3, -1)
    spectrum, vectors = np.linalg.eigh(rows @ rows.T)
    sharp, soft = (np.exp(e - e.max()) / np.exp(e - e.max()).sum() for e in (spectrum, spectrum / 4))
    expected = 2 * (vectors * (sharp - soft)) @ vectors.T @ rows
    np.testing.assert_allclose(images.grad.numpy().reshape(3, -1), expected, rtol=1e-9, atol=1e-15)


def test_one_image_adds_nothing_and_copies_add_most() -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 0.03
    assert densification(images, torch.arange(4)).item() == 0
    alike = images[:1].expand(4, -1, -1, -1)
    one_class = torch.zeros(4, dtype=torch.int64)
    assert densification(alike, one_class) > densification(images, one_class)


def test_non_finite_images_give_nan() -> None:
    images = torch.full((2, 3, 32, 32), float("nan"))
    assert densification(images, torch.zeros(2, dtype=torch.int64)).isnan()
