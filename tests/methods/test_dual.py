"""DUAL's sampling: the weights against Beta densities, the distribution of draws, and the seed."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.methods import get_method
from fastdc.methods.pruning.dual import beta_log_weights, draw_order
from tests.methods.observed import Case, make_case


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("observed"))


def beta_pdf(x: float, a: float, b: float) -> float:
    return math.gamma(a + b) / (math.gamma(a) * math.gamma(b)) * x ** (a - 1) * (1 - x) ** (b - 1)


def keep(case: Case, ipc: int, seed: int = 0, **changes: Any) -> list[int]:
    method = get_method("dual")
    return method.compress(case.context, method.configure(changes), ipc, seed).sources[:, 0].tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.1, 0.5, 0.9, 0.992]), st.integers(2, 40))
def test_weights_are_score_times_beta_density(seed: int, rate: float, size: int) -> None:
    generator = np.random.default_rng(seed)
    scores, mean_p = generator.random(size), generator.uniform(0.01, 0.99, size)
    top = sorted(range(size), key=lambda i: (-scores[i], i))[:10]
    b = 15 * (1 - np.mean(mean_p[top])) * (1 - rate**11)
    expected = np.array([s * beta_pdf(m, 16 - b, b) for s, m in zip(scores, mean_p, strict=True)])
    found = np.exp(beta_log_weights(scores, mean_p, rate, 11))
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=1e-9)


def test_certain_and_impossible_samples_have_weights_too() -> None:
    found = beta_log_weights(np.array([0.0, 0.5, 0.5]), np.array([1.0, 0.0, 1.0]), 0.99, 11)
    assert found[0] == -np.inf
    assert np.isfinite(found[1:]).all()


def test_the_draw_follows_the_weights() -> None:
    """The first draw is proportional to the weights; two of three follow sequential draws without replacement."""
    weights = np.array([1.0, 2.0, 5.0, 0.0])
    first, pairs, draws = np.zeros(4), np.zeros(4), 4000
    for seed in range(draws):
        order = np.argsort(-draw_order(np.log(weights, where=weights > 0, out=np.full(4, -np.inf)), seed))
        first[order[0]] += 1
        pairs[order[:2]] += 1
        assert order[3] == 3  # weight 0 comes last
    p = weights / weights.sum()
    np.testing.assert_allclose(first / draws, p, atol=0.04)  # 5 standard deviations
    both = [sum(p[i] * p[j] / (1 - p[i]) for i in range(3) if i != j) + p[j] for j in range(3)]
    np.testing.assert_allclose(pairs[:3] / draws, both, atol=0.04)


def test_priorities_are_a_permutation_even_without_weight() -> None:
    assert sorted(draw_order(np.full(6, -np.inf), 3).tolist()) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("ipc", [1, 5, 12])
def test_budgets_and_the_seed(case: Case, ipc: int) -> None:
    kept = keep(case, ipc)
    assert np.bincount(case.labels[kept]).tolist() == [ipc] * 4
    assert len(set(kept)) == 4 * ipc
    assert kept == keep(case, ipc)
    assert len(set(keep(case, ipc, balanced=False))) == 4 * ipc
    if ipc < 12:
        assert set(kept) != set(keep(case, ipc, seed=1))


def test_high_pruning_rates_draw_easier_samples_than_the_ranking(case: Case) -> None:
    own = case.logits - case.logits.max(axis=-1, keepdims=True)
    p = np.exp(own) / np.exp(own).sum(axis=-1, keepdims=True)
    mean_p = p[..., np.arange(case.labels.size), case.labels].mean(axis=(0, 1))
    drawn = np.mean([mean_p[keep(case, 1, seed=seed)].mean() for seed in range(20)])
    ranked = mean_p[keep(case, 1, sampling=False)].mean()
    assert drawn > ranked + 0.1
