"""D2's choice in one group, from given difficulties."""

from typing import Any

import numpy as np
import pytest

from fastdc.methods import get_method
from fastdc.methods.d2 import graph_choice, without_hardest
from fastdc.methods.geometry import groups_of
from tests.kernels.test_neighbours import slow_messages
from tests.methods.final_pass import made_up_context

CONTEXT = made_up_context(np.arange(40) % 2, seed=1)
DIFFICULTY = np.random.default_rng(2).random(40)


def found(budget: int, **settings: Any) -> list[int]:
    config: Any = get_method("d2").configure({"score": "el2n", **settings})
    return graph_choice(groups_of(CONTEXT, "d2", True)[1], DIFFICULTY, config, budget).tolist()


@pytest.mark.parametrize("keep", ["hard", "easy"])
def test_equals_the_slow_definition(keep: str) -> None:
    members = np.flatnonzero(CONTEXT.labels == 1)
    members = np.sort(members[np.argsort(DIFFICULTY[members])][:14])  # int(0.3 * 20) hardest are gone
    scores = DIFFICULTY[members]
    scores = scores - scores.min() if keep == "hard" else scores.max() - scores
    rows = np.asarray(CONTEXT.observations[0].final.features(), np.float64)[members]  # type: ignore[attr-defined]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = members[slow_messages(unit, scores, 4, 0.5, 9)].tolist()
    assert found(9, keep=keep, neighbours=4, gamma=0.5, mis_ratio=0.3) == expected


def test_a_graph_too_weak_to_matter_leaves_the_ranking() -> None:
    """Plain features lie far apart, so that messages fade; this is why they are normalised."""
    far = made_up_context(np.arange(40) % 2, seed=1)
    far.observations[0].final.rows[:] *= 100  # type: ignore[attr-defined]
    config: Any = get_method("d2").configure({"normalise": False, "mis_ratio": 0, "gamma": 1})
    members = np.flatnonzero(far.labels == 1)
    ranking = members[np.argsort(-DIFFICULTY[members])].tolist()
    assert graph_choice(groups_of(far, "d2", True)[1], DIFFICULTY, config, 20).tolist() == ranking
    assert found(20, mis_ratio=0) != ranking


def test_the_mislabelled_share_leaves_the_budget() -> None:
    (group, _) = groups_of(CONTEXT, "d2", True)
    assert without_hardest(group, DIFFICULTY, 0.4, 5).members.size == 12
    assert without_hardest(group, DIFFICULTY, 0.4, 18).members.size == 18
    assert without_hardest(group, DIFFICULTY, 0.0, 5).members.tolist() == group.members.tolist()
    kept = without_hardest(group, np.zeros(40), 0.5, 1).members
    assert kept.tolist() == group.members[:10].tolist()
