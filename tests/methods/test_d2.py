"""D2's choice in one group, from given difficulties."""

from typing import Any

import numpy as np
import pytest

from fastdc.methods import get_method
from fastdc.methods.bases.feature_methods import groups_of
from fastdc.methods.bases.method_config import inferred_settings
from fastdc.methods.pruning.d2 import graph_choice, initial_scores, starting_scores, without_hardest
from tests.kernels.geometry.test_neighbours import slow_messages
from tests.methods.final_pass import made_up_context

CONTEXT = made_up_context(np.arange(40) % 2, seed=1)
DIFFICULTY = np.random.default_rng(2).uniform(-1, 1, 40)
KEPT = np.sort(np.argsort(DIFFICULTY)[:28])  # the int(0.3 * 40) hardest are dropped


def found(budget: int, context: Any = CONTEXT, **settings: Any) -> list[int]:
    config: Any = get_method("d2").configure(settings)
    groups = without_hardest(groups_of(context, "d2", True), DIFFICULTY, config.mis_ratio, budget)
    return graph_choice(groups[1], starting_scores(DIFFICULTY, groups, config), config, budget).tolist()


@pytest.mark.parametrize("graph", ["undirected", "directed"])
@pytest.mark.parametrize("start", ["raw", "zero"])
@pytest.mark.parametrize("keep", ["hard", "easy"])
@pytest.mark.parametrize("normalise", [False, True])
def test_equals_the_slow_definition(keep: str, start: str, graph: str, normalise: bool) -> None:
    scores = DIFFICULTY if keep == "hard" else -DIFFICULTY
    if start == "zero":
        scores = scores - scores[KEPT].min()
    members = KEPT[CONTEXT.labels[KEPT] == 1]
    rows = np.asarray(CONTEXT.observations[0].final.features(), np.float64)[members]  # type: ignore[attr-defined]
    if normalise:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = members[slow_messages(rows, scores[members], 4, 0.5, 9, graph == "directed")].tolist()
    settings = {"keep": keep, "start": start, "graph": graph, "normalise": normalise, "neighbours": 4, "gamma": 0.5}
    assert found(9, mis_ratio=0.3, **settings) == expected


def test_defaults_are_the_published_command() -> None:
    """--coreset-mode graph --coreset-key accumulated_margin --mis-ratio 0.4 --n-neighbor 5 --gamma 0.1."""
    method = get_method("d2")
    config = method.configure({})
    assert config.identity() == {
        "fit": "crop",
        "balanced": True,
        "score": "aum_softmax",
        "keep": "easy",
        "start": "raw",
        "neighbours": 5,
        "graph": "undirected",
        "gamma": 0.1,
        "mis_ratio": 0.4,
        "mis_score": "aum_softmax",
        "normalise": False,
    }
    assert inferred_settings(type(config)) == ["balanced"]
    assert method.version == 2


def test_accumulated_margin_is_of_probabilities() -> None:
    log: Any = CONTEXT.observations[0]
    log.log["p_other"][:] = log.log["p_y"] * 0.5
    np.testing.assert_allclose(initial_scores(CONTEXT, "aum_softmax"), -0.5 * log.log["p_y"].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(initial_scores(CONTEXT, "aum"), -log.log["margin"].mean(axis=0), rtol=1e-6)


def test_a_weak_graph_keeps_the_ranking() -> None:
    far = made_up_context(np.arange(40) % 2, seed=1)
    far.observations[0].final.rows[:] *= 100  # type: ignore[attr-defined]
    members = np.flatnonzero(far.labels == 1)
    ranking = members[np.argsort(DIFFICULTY[members])].tolist()
    assert found(20, far, mis_ratio=0, gamma=1) == ranking
    assert found(20, mis_ratio=0) != ranking


def test_the_mislabelled_share_is_of_the_whole_set_and_keeps_the_budget() -> None:
    groups = groups_of(CONTEXT, "d2", True)
    hardness = np.where(CONTEXT.labels == 0, 1.0, 0.0) + DIFFICULTY / 100
    left = [group.members for group in without_hardest(groups, hardness, 0.4, 3)]
    assert [members.size for members in left] == [4, 20]
    assert (np.diff(left[0]) > 0).all()
    assert left[0].tolist() == sorted(groups[0].members[np.argsort(DIFFICULTY[groups[0].members])[:4]])
    assert [group.members.size for group in without_hardest(groups, hardness, 0.4, 18)] == [18, 20]
    untouched = without_hardest(groups, hardness, 0.0, 5)
    assert [group.members.tolist() for group in untouched] == [group.members.tolist() for group in groups]
    tied = without_hardest(groups_of(CONTEXT, "d2", False), np.zeros(40), 0.5, 1)
    assert tied[0].members.tolist() == list(range(20))
