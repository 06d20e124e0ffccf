"""Moderate, SSP and supervised prototypes against numpy in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdc.methods import MethodContext, get_method, select
from fastdc.methods.pruning.moderate import central_order
from tests.methods.final_pass import context_of, made_up_context


def features_of(context: MethodContext) -> np.ndarray:
    return np.asarray(context.observations[0].final.features(), np.float64)  # type: ignore[attr-defined]


def slow_median_distances(context: MethodContext) -> np.ndarray:
    rows = features_of(context)
    medians = [np.median(rows[context.labels == label], axis=0) for label in range(len(context.classes))]
    return np.array([np.linalg.norm(row - medians[label]) for row, label in zip(rows, context.labels, strict=True)])


@given(st.integers(1, 30), st.data())
def test_the_central_ranks_are_the_quantile_band(size: int, data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, size))
    distances = np.random.default_rng(size).permutation(size).astype(np.float64)
    low = (size - budget) // 2
    found = central_order(distances, budget)
    assert sorted(distances[found].tolist()) == list(range(low, low + budget))
    off_middle = np.abs(distances[found] - (size - 1) / 2)
    assert (np.diff(off_middle) >= 0).all()
    assert central_order(np.ones(5), 5).tolist() == [2, 1, 3, 0, 4]


@pytest.mark.parametrize("ipc", [1, 4, 12])
def test_moderate_keeps_the_middle_of_every_class(ipc: int) -> None:
    context = made_up_context(np.arange(36) % 3, seed=4)
    method = get_method("moderate")
    expected = slow_median_distances(context)
    np.testing.assert_allclose(method.scores(context, method.configure({})), expected, rtol=1e-6)  # type: ignore[attr-defined]
    found = method.compress(context, method.configure({}), ipc, 0)
    low = (12 - ipc) // 2
    for label in range(3):
        members = np.flatnonzero(context.labels == label)
        band = members[np.argsort(expected[members])][low : low + ipc]
        assert set(found.sources[found.labels == label, 0].tolist()) == set(band.tolist())
    assert found.details["score_min"] <= found.details["score_max"]


def test_moderate_over_all_images_takes_one_band() -> None:
    context = made_up_context(np.arange(36) % 3, seed=4)
    method = get_method("moderate")
    found = method.compress(context, method.configure({"balanced": False}), 2, 0).sources[:, 0]
    assert set(found.tolist()) == set(np.argsort(slow_median_distances(context))[15:21].tolist())


@pytest.mark.parametrize("keep", ["easy", "hard"])
def test_supervised_prototypes_are_the_class_means(keep: str) -> None:
    context = made_up_context(np.arange(36) % 3, seed=5)
    rows = features_of(context)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.array([unit[context.labels == label].mean(axis=0) for label in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected = 1 - (unit * means[context.labels]).sum(axis=1)
    method = get_method("prototypes")
    config = method.configure({"keep": keep})
    np.testing.assert_allclose(method.scores(context, config), expected, atol=1e-6)  # type: ignore[attr-defined]
    found = method.compress(context, config, 3, 0)
    assert found.sources[:, 0].tolist() == select(expected, context.labels, 3, keep).tolist()  # type: ignore[arg-type]


def test_ssp_measures_to_the_nearest_of_one_prototype_per_class() -> None:
    labels = np.arange(60) % 3
    generator = np.random.default_rng(0)
    near = np.eye(5)[labels] + generator.standard_normal((60, 5)) * 0.05
    near[0] = [0, 0, 0, 0, 1]  # unlike all others
    context = context_of(labels, near, np.ones((60, 3)), np.ones((1, 60)), 3)
    method = get_method("ssp")
    scores = method.scores(context, method.configure({}))  # type: ignore[attr-defined]
    assert int(scores.argmax()) == 0
    assert scores[1:].max() < 0.05
    easy, hard = (method.compress(context, method.configure({"keep": keep}), 1, 0) for keep in ("easy", "hard"))
    assert hard.sources[0, 0] == 0
    assert easy.details["score_max"] < hard.details["score_max"]
    again = method.scores(context, method.configure({}))  # type: ignore[attr-defined]
    assert (scores == again).all()


def test_ssp_reads_no_labels() -> None:
    context = made_up_context(np.arange(40) % 2, seed=2)
    other = MethodContext(1 - context.labels, context.classes, 32, context.image, context.observations)
    method = get_method("ssp")
    config = method.configure({"clusters": 4})
    assert (method.scores(context, config) == method.scores(other, config)).all()  # type: ignore[attr-defined]


def test_supervised_prototypes_separate_images_of_a_tight_class() -> None:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal(256) + 5e-3 * generator.standard_normal((300, 256))
    context = context_of(np.zeros(300, np.int64), rows, np.ones((300, 1)), np.ones((1, 300)), 1)
    exact = features_of(context)
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    mean = unit.mean(axis=0)
    method = get_method("prototypes")
    found = method.scores(context, method.configure({}))  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, 1 - unit @ mean / np.linalg.norm(mean), atol=3e-11)
