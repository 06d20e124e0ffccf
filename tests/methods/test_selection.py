"""Selection against an independent, slow definition, and its invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.methods import select
from fastdc.methods.bases.selection import random_balanced, select_among


def slow_select(scores: list[float], labels: list[int], ipc: int, keep: str) -> list[int]:
    sign = 1 if keep == "easy" else -1
    chosen: list[int] = []
    for label in range(max(labels) + 1):
        members = [i for i, own in enumerate(labels) if own == label]
        chosen += sorted(members, key=lambda i: (sign * scores[i], i))[:ipc]
    return chosen


cases = st.integers(1, 4).flatmap(
    lambda classes: st.tuples(
        st.lists(st.integers(1, 6), min_size=classes, max_size=classes), st.integers(0, 2**31), st.booleans()
    )
)


@settings(max_examples=80, deadline=None)
@given(cases, st.sampled_from(["easy", "hard"]))
def test_balanced_equals_the_slow_definition(case: tuple[list[int], int, bool], keep: str) -> None:
    counts, seed, many_ties = case
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    generator.shuffle(labels)
    scores = generator.integers(0, 3, labels.size) / 2 if many_ties else generator.random(labels.size)
    ipc = min(counts)
    found = select(scores, labels, ipc, keep)
    assert found.tolist() == slow_select(scores.tolist(), labels.tolist(), ipc, keep)
    assert np.bincount(labels[found], minlength=len(counts)).tolist() == [ipc] * len(counts)


@given(st.permutations(range(12)))
def test_permuting_samples_permutes_the_selection(order: list[int]) -> None:
    scores, labels = np.linspace(0, 1, 12), np.arange(12) % 3
    chosen = set(select(scores, labels, 2).tolist())
    moved = select(scores[order], labels[order], 2)
    assert {order[i] for i in moved} == chosen


def test_global_budget_ignores_classes_and_breaks_ties_by_index() -> None:
    scores, labels = np.array([0.5, 0.1, 0.1, 0.9]), np.array([0, 0, 0, 1])
    assert select(scores, labels, 1, "easy", balanced=False).tolist() == [1, 2]
    assert select(scores, labels, 1, "hard", balanced=False).tolist() == [3, 0]
    assert select(np.ones(4), labels, 2, "hard", balanced=False).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("scores", "labels", "ipc", "match"),
    [
        ([0.1, np.nan], [0, 0], 1, "sample 1 is nan"),
        ([0.1, np.inf], [0, 1], 1, "sample 1 is inf"),
        ([0.1, 0.2], [0, 1], 0, "ipc=0"),
        ([0.1, 0.2], [0, 1], 2, "class 0 has 1 images"),
        ([0.1, 0.2], [0, 2], 1, "class 1 has 0 images"),
        ([0.1], [0, 1], 1, "must be equal"),
        ([], [], 1, "not empty"),
        ([0.1, 0.2], [-1, 0], 1, "negative"),
    ],
)
def test_refuses_unusable_input(scores: list[float], labels: list[int], ipc: int, match: str) -> None:
    with pytest.raises(MethodError, match=match):
        select(scores, labels, ipc)


def test_random_is_balanced_seeded_and_without_repeats() -> None:
    labels = np.arange(60) % 3
    first, again, other = (random_balanced(labels, 3, 5, seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
    assert len(set(first.tolist())) == 15
    assert np.bincount(labels[first]).tolist() == [5, 5, 5]


def test_random_is_uniform() -> None:
    labels = np.zeros(8, np.int64)
    counts = np.bincount(np.concatenate([random_balanced(labels, 1, 2, seed) for seed in range(4000)]), minlength=8)
    assert abs(counts / 1000 - 1).max() < 0.15  # about 5 standard deviations


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from(["easy", "hard"]), st.booleans())
def test_permuting_samples_with_distinct_scores_permutes_the_result(
    case: tuple[list[int], int, bool], keep: str, balanced: bool
) -> None:
    counts, seed, _ = case
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    scores = generator.permutation(labels.size) - 3.5
    order = generator.permutation(labels.size)
    ipc = min(counts)
    found = select(scores, labels, ipc, keep, balanced)
    assert order[select(scores[order], labels[order], ipc, keep, balanced)].tolist() == found.tolist()


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from(["easy", "hard"]))
def test_the_global_budget_equals_a_plain_sort(case: tuple[list[int], int, bool], keep: str) -> None:
    counts, seed, many_ties = case
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    scores = generator.integers(-2, 2, labels.size) / 2 if many_ties else generator.standard_normal(labels.size)
    sign = 1 if keep == "easy" else -1
    expected = sorted(range(labels.size), key=lambda i: (sign * scores[i], i))
    for ipc in (1, min(counts), labels.size // len(counts)):
        assert select(scores, labels, ipc, keep, balanced=False).tolist() == expected[: ipc * len(counts)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from(["easy", "hard"]), st.booleans())
def test_constant_scores_keep_the_lowest_indices(classes: int, ipc: int, keep: str, balanced: bool) -> None:
    labels = np.arange(classes * 6) % classes
    found = select(np.full(labels.size, -0.25), labels, ipc, keep, balanced)
    if balanced:
        assert found.tolist() == [label + classes * i for label in range(classes) for i in range(ipc)]
    else:
        assert found.tolist() == list(range(ipc * classes))


def test_an_ipc_of_a_small_integer_type_does_not_overflow() -> None:
    assert select(np.zeros(400), np.arange(400) % 4, np.int8(100), balanced=False).size == 400  # type: ignore[arg-type]


def test_budgets_of_one_and_of_all() -> None:
    scores, labels = np.array([3.0, 1.0, 2.0, 0.0]), np.array([0, 1, 0, 1])
    assert select(scores, labels, 1).tolist() == [2, 3]
    assert select(scores, labels, 2, "hard").tolist() == [0, 2, 1, 3]
    assert select(scores, np.zeros(4, int), 4).tolist() == [3, 1, 2, 0]
    assert select(scores, labels, 2, balanced=False).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("balanced", [True, False])
def test_a_score_that_is_not_finite_is_refused_anywhere(spoilt: float, balanced: bool) -> None:
    scores = np.arange(6.0)
    scores[5] = spoilt  # never among the kept of its class, and refused all the same
    with pytest.raises(MethodError, match=f"score of sample 5 is {spoilt}; 1 scores are not finite"):
        select(scores, np.arange(6) % 2, 1, "easy", balanced)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"keep": "Easy"}, "keep='Easy'; expected 'easy' or 'hard'"),
        ({"ipc": 1.5}, r"ipc=1\.5; expected a whole number"),
        ({"ipc": True}, "ipc=True"),
        ({"scores": ["low", "high"]}, "arrays of numbers; could not convert string"),
        ({"labels": [0, [1]]}, "arrays of numbers"),
        ({"labels": [0.0, 1.0]}, "labels of type float64; expected integers"),
        ({"ipc": 2, "balanced": False}, "4 images requested, but the set has 2"),
    ],
)
def test_invalid_requests_are_refused(changes: dict[str, object], match: str) -> None:
    request: dict[str, object] = {"scores": [0.1, 0.2], "labels": [0, 1], "ipc": 1, **changes}
    with pytest.raises(MethodError, match=match):
        select(**request)  # type: ignore[arg-type]


def test_a_class_without_images_counts_in_a_global_budget() -> None:
    scores, labels = np.arange(8.0), np.array([0, 1] * 4)
    assert select_among(scores, labels, 3, 2, "easy", False).tolist() == [0, 1, 2, 3, 4, 5]
    assert select_among(scores, labels, 2, 1, "hard", True).tolist() == [6, 7]
