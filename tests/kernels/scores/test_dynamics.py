"""The fused dynamics kernel against a plain float64 reference and the definitions of other projects."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.kernels.scores.dynamics import batch_dynamics
from fastdc.kernels.scores.fields import FIELDS


def run(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    out = np.full((len(FIELDS), len(labels)), np.nan, np.float32)
    batch_dynamics(logits.astype(np.float32), labels.astype(np.int64), np.arange(len(labels)), out)
    return dict(zip(FIELDS, out, strict=True))


def reference(logits: np.ndarray, label: int) -> dict[str, float]:
    """Compute the definitions directly, one sample at a time, in float64."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    others = [j for j in range(len(z)) if j != label]
    onehot = np.eye(len(z))[label]
    return {
        "p_y": p[label],
        "p_other": max(p[j] for j in others),
        "margin": z[label] - max(z[j] for j in others),
        "entropy": -sum(v * np.log(v) for v in p if v > 0),
        "el2n": np.linalg.norm(p - onehot),
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.floats(0.01, 30), st.integers(0, 2**32 - 1))
def test_equals_the_float64_reference(classes: int, batch: int, scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = (generator.standard_normal((batch, classes)) * scale).astype(np.float32)
    labels = generator.integers(0, classes, batch)
    found = run(logits, labels)
    for i in range(batch):
        for name, expected in reference(logits[i], int(labels[i])).items():
            assert found[name][i] == pytest.approx(expected, rel=2e-6, abs=2e-6), name


def test_equals_the_peers_definitions_in_torch() -> None:
    """EL2N as CCS and data_diet compute it, AUM's margin by masking the target, entropy as DeepCore."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(64, 1000, generator=generator) * 4
    labels = torch.randint(0, 1000, (64,), generator=generator)
    found = run(logits.numpy(), labels.numpy())
    p = logits.softmax(1)
    el2n = (p - torch.nn.functional.one_hot(labels, 1000)).norm(dim=1)
    masked = logits.scatter(1, labels[:, None], float("-inf"))
    margin = logits.gather(1, labels[:, None])[:, 0] - masked.max(1).values
    entropy = -(p * p.log()).sum(1)
    np.testing.assert_allclose(found["el2n"], el2n.numpy(), atol=1e-6)
    np.testing.assert_allclose(found["margin"], margin.numpy(), atol=1e-6)
    np.testing.assert_allclose(found["entropy"], entropy.numpy(), atol=2e-5)
    assert ((found["margin"] > 0) == (logits.argmax(1) == labels).numpy()).all()


def test_extreme_logits_stay_finite_and_exact() -> None:
    logits = np.array([[3e38, -3e38, 0], [-3e38, 3e38, 0], [500, 500, -500], [40, 0, 0]], np.float32)
    found = run(logits, np.array([0, 0, 0, 0]))
    assert found["el2n"][:3] == pytest.approx([0, np.sqrt(2), np.sqrt(0.5)])
    assert found["entropy"][:3] == pytest.approx([0, 0, np.log(2)])
    rest = np.exp(-40.0)  # 1 - p_y underflows in float32 arithmetic; the kernel keeps it
    assert found["el2n"][3] == pytest.approx(np.sqrt(2 * rest**2 + (2 * rest) ** 2), rel=1e-6)


def test_writes_only_the_batchs_columns() -> None:
    out = np.full((len(FIELDS), 5), np.nan, np.float32)
    batch_dynamics(np.zeros((2, 3), np.float32), np.array([0, 1]), np.array([4, 1]), out)
    assert np.isfinite(out[:, [1, 4]]).all()
    assert np.isnan(out[:, [0, 2, 3]]).all()
