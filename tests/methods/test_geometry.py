"""Properties of every geometry method: budgets, invariances, refusals."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.methods import Compressed, MethodContext, get_method
from fastdc.methods.bases.feature_methods import groups_of, per_group
from fastdc.observe.record_needs import WHOLE_SCHEDULE
from tests.methods.final_pass import context_of, made_up_context, taken

WITH_GLOBAL = ["herding", "k_center", "moderate", "ssp", "prototypes", "graph_cut", "d2"]
PER_CLASS = ["facility_location", "craig", "gradmatch", "r_cad"]
BY_CLASS_ALONE = [name for name in WITH_GLOBAL + PER_CLASS if name != "ssp"]  # ssp's prototypes are of the whole set
SETTINGS: dict[str, dict[str, Any]] = {"d2": {"score": "aum", "mis_score": "aum"}}  # the log's fields are all equal


def choose(name: str, context: MethodContext, ipc: int, **more: Any) -> Compressed:
    method = get_method(name)
    return method.compress(context, method.configure({**SETTINGS.get(name, {}), **more}), ipc, 0)


def chosen(name: str, context: MethodContext, ipc: int, **more: Any) -> list[int]:
    return choose(name, context, ipc, **more).sources[:, 0].tolist()


@pytest.mark.parametrize("name", WITH_GLOBAL + PER_CLASS)
@pytest.mark.parametrize("ipc", [1, 5, 9])
def test_budgets_are_exact_and_grouped_by_class(name: str, ipc: int) -> None:
    labels = np.repeat([2, 0, 1], [9, 11, 30])
    context = made_up_context(labels)
    found = choose(name, context, ipc)
    assert found.labels.tolist() == np.repeat(np.arange(3), ipc).tolist()
    assert (labels[found.sources[:, 0]] == found.labels).all()
    assert len(set(found.sources[:, 0].tolist())) == 3 * ipc


@pytest.mark.parametrize("name", WITH_GLOBAL)
@pytest.mark.parametrize("ipc", [1, 16])
def test_global_budgets_are_exact(name: str, ipc: int) -> None:
    context = made_up_context(np.repeat([0, 1, 2], [3, 15, 30]))
    found = choose(name, context, ipc, balanced=False)
    assert len(set(found.sources[:, 0].tolist())) == 3 * ipc
    assert (context.labels[found.sources[:, 0]] == found.labels).all()
    with pytest.raises(MethodError, match="ipc=17 needs 51 images, the set has 48"):
        choose(name, context, 17, balanced=False)


@pytest.mark.parametrize("name", WITH_GLOBAL + PER_CLASS)
def test_a_budget_above_a_class_is_refused(name: str) -> None:
    with pytest.raises(MethodError, match="class 'class 0' has 3"):
        choose(name, made_up_context(np.repeat([0, 1], [3, 9])), 4)


@pytest.mark.parametrize("name", BY_CLASS_ALONE)
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 99), st.integers(1, 8))
def test_permuting_samples_permutes_the_choice(name: str, seed: int, ipc: int) -> None:
    context = made_up_context(np.arange(36) % 3, seed)
    ipc = 1 if name in ("facility_location", "craig") else ipc  # later picks tie, see test_submodular.py
    moved = np.random.default_rng(seed).permutation(36)
    assert moved[chosen(name, taken(context, moved), ipc)].tolist() == chosen(name, context, ipc)


@pytest.mark.parametrize("name", BY_CLASS_ALONE)
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 99), st.integers(1, 8))
def test_classes_are_independent(name: str, seed: int, ipc: int) -> None:
    context = made_up_context(np.arange(45) % 3, seed)
    few = np.flatnonzero(context.labels < 2)
    # D2 drops a share of the whole set, not of each class; without it, only the default of `mis_score` is accepted.
    more = {"mis_ratio": 0, "mis_score": "aum_softmax"} if name == "d2" else {}
    alone = chosen(name, taken(context, few, classes=2), ipc, **more)
    assert few[alone].tolist() == chosen(name, context, ipc, **more)[: 2 * ipc]


@pytest.mark.parametrize("name", WITH_GLOBAL + PER_CLASS)
def test_one_class_duplicates_and_zero_vectors(name: str) -> None:
    labels = np.zeros(8, np.int64)
    for rows in (np.ones((8, 3)), np.zeros((8, 3))):
        context = context_of(labels, rows, np.ones((8, 1)), np.ones((12, 8)), 1)
        assert sorted(chosen(name, context, 8)) == list(range(8))
        if name not in ("moderate", "ssp"):
            assert chosen(name, context, 3) == [0, 1, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "field"),
    [*((name, "features") for name in WITH_GLOBAL + PER_CLASS), ("craig", "outputs"), ("gradmatch", "outputs")],
)
def test_values_that_are_not_finite_are_refused_by_sample(name: str, field: str, value: float) -> None:
    context = made_up_context(np.arange(20) % 2)
    final: Any = context.observations[0].final
    (final.rows if field == "features" else final.probabilities)[13, 0] = value
    with pytest.raises(MethodError, match=f"{field} of sample 13 are not finite"):
        choose(name, context, 2)


@pytest.mark.parametrize("name", WITH_GLOBAL + PER_CLASS)
def test_metadata_and_needs(name: str) -> None:
    method = get_method(name)
    assert "features" in method.info.needs
    assert method.observer_epochs(method.configure({})) == WHOLE_SCHEDULE
    assert method.info.bibtex.startswith("@")
    assert method.class_balanced(method.configure({}))
    if name in WITH_GLOBAL:
        assert not method.class_balanced(method.configure({"balanced": False}))


def test_refuses_a_missing_observation_and_one_of_another_set() -> None:
    context = made_up_context(np.arange(6) % 2)
    without = MethodContext(context.labels, context.classes, 32, context.image)
    with pytest.raises(MethodError, match="fastdc observe"):
        chosen("herding", without, 1)
    other = MethodContext(context.labels[:4], context.classes, 32, context.image, context.observations)
    with pytest.raises(MethodError, match="features of 6 samples, the training set has 4"):
        chosen("herding", other, 1)


def test_residuals_keep_what_float16_loses_near_one() -> None:
    outputs = np.array([[1.0, 1e-5], [0.25, 0.75]])
    (group,) = groups_of(context_of(np.zeros(2, np.int64), np.ones((2, 3)), outputs, np.ones((1, 2)), 1), "x", True)
    found = group.residuals().points(range(2))[:, :2]
    np.testing.assert_allclose(found, [[-1e-5, 1e-5], [-0.75, 0.75]], rtol=3e-3)


def test_groups_are_the_classes_in_order_with_ascending_members() -> None:
    context = made_up_context(np.array([2, 0, 1, 0, 2]))
    assert per_group(groups_of(context, "x", True), lambda group: group.members.tolist()) == [[1, 3], [2], [0, 4]]
    assert groups_of(context, "x", False)[0].members.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", WITH_GLOBAL)
def test_a_class_without_images_counts_in_a_global_budget(name: str) -> None:
    assert len(set(chosen(name, made_up_context(np.arange(30) % 3, classes=4), 2, balanced=False))) == 8
