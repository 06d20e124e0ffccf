"""CCS: strata against the authors' rule, the faults of their code, and the seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.methods import get_method
from fastdc.methods.bases.score_methods import ScoreMethod
from fastdc.methods.pruning.ccs import choose_in_strata, strata_budgets, strata_of
from tests.methods.observed import Case, make_case


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("observed"), per_class=20)


def keep(case: Case, ipc: int, seed: int = 0, **changes: Any) -> list[int]:
    method = get_method("ccs")
    return method.compress(case.context, method.configure(changes), ipc, seed).sources[:, 0].tolist()


def slow_budgets(sizes: list[int], budget: int) -> list[int]:
    """Follow the paper's algorithm: smallest first, min(size, remaining budget // remaining strata)."""
    given_out = [0] * len(sizes)
    for served, k in enumerate(sorted(range(len(sizes)), key=lambda k: (sizes[k], k))):
        given_out[k] = min(sizes[k], (budget - sum(given_out)) // (len(sizes) - served))
    return given_out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.data())
def test_budgets_sum_exactly_and_follow_the_rule(sizes: list[int], data: st.DataObject) -> None:
    budget = data.draw(st.integers(0, sum(sizes)))
    found = strata_budgets(np.array(sizes), budget).tolist()
    assert sum(found) == budget
    assert all(0 <= some <= size for some, size in zip(found, sizes, strict=True))
    assert found == slow_budgets(sizes, budget)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 80), st.integers(1, 50), st.booleans())
def test_strata_have_equal_widths_and_hold_every_value(seed: int, size: int, strata: int, negative: bool) -> None:
    values = np.random.default_rng(seed).random(size) - (5 if negative else 0)
    found = strata_of(values, strata)
    assert found.min() == 0
    assert found[np.argmax(values)] == (strata - 1 if size > 1 else 0)
    edges = np.linspace(values.min(), values.max(), strata + 1)
    slack = 1e-12
    if size > 1:
        assert (values >= edges[found] - slack).all()
        assert (values <= edges[found + 1] + slack).all()


def test_equal_and_extreme_values() -> None:
    assert strata_of(np.full(5, -3.0), 50).tolist() == [0] * 5
    assert strata_of(np.array([-1.7e308, 0.0, 1.7e308]), 4).tolist() == [0, 2, 3]
    with pytest.raises(MethodError, match="4 images requested, but they hold 3"):
        strata_budgets(np.array([1, 2]), 4)


def test_the_choice_within_a_stratum_is_uniform() -> None:
    values = np.concatenate([np.zeros(4), np.ones(6)])  # two strata; 2 of 4 and 2 of 6
    counts = np.zeros(10)
    for seed in range(3000):
        draws = np.random.default_rng(seed).random(10)
        counts[choose_in_strata(values, draws, 4, 2)] += 1
    np.testing.assert_allclose(counts / 3000, [0.5] * 4 + [1 / 3] * 6, atol=0.045)  # 5 standard deviations


@pytest.mark.parametrize("score", ["aum", "aum_softmax", "el2n", "forgetting"])
@pytest.mark.parametrize("balanced", [True, False])
def test_drops_the_hardest_by_aum_and_covers_the_strata(case: Case, score: str, balanced: bool) -> None:
    method = get_method("ccs")
    assert isinstance(method, ScoreMethod)
    kept = keep(case, 3, score=score, balanced=balanced)
    assert len(set(kept)) == 12
    config = method.configure({"score": score})
    values = method.scores(case.context, config)
    aum = get_method("aum")
    assert isinstance(aum, ScoreMethod)
    softmax = score == "aum_softmax"
    hardness = aum.scores(case.context, aum.configure({"softmax": softmax}))
    groups = [np.flatnonzero(case.labels == y) for y in range(4)] if balanced else [np.arange(case.labels.size)]
    for members in groups:
        dropped = set(members[np.argsort(-hardness[members])][: int(0.3 * members.size)].tolist())
        assert not dropped & set(kept)
        left = np.array([i for i in members if i not in dropped])
        signed = -values if score in ("aum", "aum_softmax") else values
        low, high = signed[left].min(), signed[left].max()
        edges = low + (high - low) * np.arange(51) / 50
        stratum = np.clip(np.searchsorted(edges, signed[left], side="right") - 1, 0, 49)
        sizes = np.bincount(stratum, minlength=50).tolist()
        ours = np.bincount(stratum[np.isin(left, kept)], minlength=50).tolist()
        assert ours == slow_budgets(sizes, 3 if balanced else 12)
    if balanced:
        assert case.labels[kept].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_every_class_keeps_the_same_number_except_with_the_published_budget(case: Case) -> None:
    assert np.bincount(case.labels[keep(case, 3)]).tolist() == [3] * 4
    assert np.bincount(case.labels[keep(case, 3, balanced=False)], minlength=4).tolist() != [3] * 4


def test_the_choice_depends_on_the_seed(case: Case) -> None:
    assert keep(case, 3) == keep(case, 3)
    assert keep(case, 3) != keep(case, 3, seed=1)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("ipc", [1, 15, 20])
def test_any_budget_is_met_exactly(case: Case, balanced: bool, ipc: int) -> None:
    """At 15 and 20 of 20, dropping 30 % would leave too few, so fewer are dropped."""
    kept = keep(case, ipc, balanced=balanced, beta=0.3)
    assert len(set(kept)) == 4 * ipc
    if balanced:
        assert np.bincount(case.labels[kept]).tolist() == [ipc] * 4


def test_a_budget_above_the_set_is_refused(case: Case) -> None:
    with pytest.raises(MethodError, match="ipc=21 needs 84 images, the set has 80"):
        keep(case, 21, balanced=False)
    with pytest.raises(MethodError, match="class 'class0' has 20"):
        keep(case, 21)


def test_one_class_and_one_sample_per_class(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    alone = make_case(tmp_path / "a", runs=1, per_class=1)
    assert sorted(keep(alone, 1)) == [0, 1, 2, 3]
    pair = make_case(tmp_path / "b", runs=1, classes=2, per_class=6)
    assert len(keep(pair, 2, balanced=True)) == 4
