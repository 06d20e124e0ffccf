"""Methods that rank by one score: its values, averaged over runs, its direction, and the kept images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.common.errors import ConfigError, MethodError
from fastdc.methods import all_methods, get_method
from fastdc.methods.bases.score_methods import ScoreMethod
from fastdc.observe.record_needs import WHOLE_SCHEDULE
from tests.methods import score_references as references
from tests.methods.observed import Case, FinishedObservation, InMemoryFinal, make_case, observe_logits
from tests.methods.test_selection import slow_select


def negated(score: Callable[..., float]) -> Callable[..., float]:
    return lambda z, y: -score(z, y)


VARIANTS: list[tuple[str, dict[str, Any], Callable[..., float], int]] = [
    ("el2n", {}, lambda z, y: references.el2n(z[:10], y), 10),
    ("el2n", {"first_epoch": 3, "last_epoch": 5}, lambda z, y: references.el2n(z[2:5], y), 5),
    ("forgetting", {}, references.forgetting, WHOLE_SCHEDULE),
    ("forgetting", {"last_epoch": 6}, lambda z, y: references.forgetting(z[:6], y), 6),
    ("aum", {}, negated(references.aum), WHOLE_SCHEDULE),
    ("aum", {"last_epoch": 4}, lambda z, y: -references.aum(z[:4], y), 4),
    ("aum", {"softmax": True}, negated(references.aum_softmax), WHOLE_SCHEDULE),
    ("entropy", {}, references.entropy, WHOLE_SCHEDULE),
    ("margin", {}, lambda z, y: 1 - references.margin(z, y), WHOLE_SCHEDULE),
    ("least_confidence", {}, lambda z, y: 1 - references.least_confidence(z, y), WHOLE_SCHEDULE),
    ("tdds", {"last_epoch": 12}, lambda z, y: references.tdds(z[:12], y), 12),
    ("tdds", {"last_epoch": 14, "window": 4, "decay": 0.5}, lambda z, y: references.tdds(z, y, 4, 0.5), 14),
    ("dyn_unc", {}, references.dyn_unc, WHOLE_SCHEDULE),
    ("dyn_unc", {"window": 3, "last_epoch": 8}, lambda z, y: references.dyn_unc(z[:8], y, 3), 8),
    ("dual", {}, references.dual, WHOLE_SCHEDULE),
    ("cad_prune", {}, lambda z, y: references.cad_prune(z[:8], y), 8),
    (
        "cad_prune",
        {"last_epoch": 14, "window": 4, "last_windows": 3},
        lambda z, y: references.cad_prune(z, y, 4, 3),
        14,
    ),
    ("cad_prune", {"reading": "el2n"}, lambda z, y: references.cad_prune_el2n(z[:8], y), 8),
    (
        "cad_prune",
        {"reading": "el2n", "last_epoch": 13, "window": 4, "last_windows": 3},
        lambda z, y: references.cad_prune_el2n(z[:13], y, 4, 3),
        13,
    ),
]
RANKED = sorted({name for name, *_ in VARIANTS} | {"grand"})


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("observed"))


def method_of(name: str) -> ScoreMethod:
    method = get_method(name)
    assert isinstance(method, ScoreMethod)
    return method


def scores_of(name: str, case: Case, settings: dict[str, Any]) -> np.ndarray:
    method = method_of(name)
    return method.scores(case.context, method.configure(settings))


@pytest.mark.parametrize(("name", "settings", "reference", "epochs"), VARIANTS)
def test_scores_are_the_papers_averaged_over_runs_with_high_as_hard(
    case: Case, name: str, settings: dict[str, Any], reference: Callable[..., float], epochs: int
) -> None:
    expected = [
        np.mean([reference(run[:, i], int(y)) for run in case.logits]) for i, y in enumerate(case.context.labels)
    ]
    np.testing.assert_allclose(scores_of(name, case, settings), expected, rtol=2e-5, atol=2e-6)
    method = method_of(name)
    assert method.observer_epochs(method.configure(settings)) == epochs


def test_grand_is_the_gradient_norm_of_the_last_layer(case: Case) -> None:
    expected = [
        np.mean([references.grand(run[:, i], int(y), h[i]) for run, h in zip(case.logits, case.features, strict=True)])
        for i, y in enumerate(case.labels)
    ]
    np.testing.assert_allclose(scores_of("grand", case, {}), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["el2n", "forgetting", "aum", "entropy", "margin", "least_confidence", "grand"])
def test_a_sample_that_is_always_wrong_and_unsure_outranks_one_that_is_always_right(tmp_path: Path, name: str) -> None:
    case = make_case(tmp_path, runs=1)
    logits = np.zeros((14, 2, 4), np.float32)
    logits[:, 0, :2] = 1.0  # a tie of the label and another class
    logits[:, 1, 0] = 9.0
    run = observe_logits(tmp_path / "two", logits, np.array([0, 0]), np.ones((2, 3)))
    context = replace(case.context, labels=np.array([0, 0]), observations=(run,))
    found = method_of(name).scores(context, method_of(name).configure({}))
    assert found[0] > found[1]


@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("keep", ["easy", "hard"])
@pytest.mark.parametrize("balanced", [True, False])
def test_selection_equals_an_independent_one(case: Case, name: str, keep: str, balanced: bool) -> None:
    settings: dict[str, Any] = {"keep": keep, "balanced": balanced}
    settings |= {"sampling": False} if name == "dual" else {}
    settings |= {"last_epoch": 14} if name == "tdds" else {}
    method = method_of(name)
    config = method.configure(settings)
    assert method.class_balanced(config) == balanced
    found = method.compress(case.context, config, 3, 0)
    scores = scores_of(name, case, settings)
    if balanced:
        expected = slow_select(scores.tolist(), case.labels.tolist(), 3, keep)
    else:
        sign = 1 if keep == "easy" else -1
        expected = sorted(range(scores.size), key=lambda i: (sign * scores[i], i))[:12]
    assert found.sources[:, 0].tolist() == expected
    assert found.labels.tolist() == case.labels[expected].tolist()
    assert found.details == {"score_min": scores[expected].min(), "score_max": scores[expected].max()}
    ready = replace(case.context, scores=scores)
    assert method.compress(replace(ready, observations=()), config, 3, 0).sources[:, 0].tolist() == expected


def test_defaults_keep_the_easy_end_unless_the_method_has_its_own_rule() -> None:
    keeps = {name: method_of(name).configure({}).keep for name in RANKED}  # type: ignore[attr-defined]
    assert {name for name, keep in keeps.items() if keep == "hard"} == {"cad_prune", "dual", "dyn_unc"}
    assert all(method_of(name).class_balanced(method_of(name).configure({})) for name in RANKED)


def test_only_scores_of_the_final_pass_need_one_of_this_release() -> None:
    """All others can use observations of earlier releases."""
    needs = {name: method.observer_needs(method.configure({})) for name, method in all_methods().items()}
    exact = {"entropy", "margin", "least_confidence", "grand"}
    assert {name for name, wanted in needs.items() if wanted.exact} == exact
    assert {name for name in exact if get_method(name).version == 2} == exact


@pytest.mark.parametrize("name", [*RANKED, "ccs"])
def test_needs_an_observation(case: Case, name: str) -> None:
    with pytest.raises(MethodError, match=f"method {name}: needs an observed training"):
        scores_of(name, Case(case.logits, case.labels, case.features, replace(case.context, observations=())), {})


@pytest.mark.parametrize("name", ["el2n", "forgetting", "aum", "dyn_unc", "dual", "cad_prune", "tdds", "ccs"])
def test_refuses_a_log_that_ends_too_early(case: Case, name: str) -> None:
    with pytest.raises(
        MethodError, match=r"14 epochs, but last_epoch=15 was requested; observe longer or lower last_epoch"
    ):
        scores_of(name, case, {"last_epoch": 15})


@pytest.mark.parametrize(("name", "settings"), [("dyn_unc", {"last_epoch": 9}), ("dual", {"last_epoch": 9})])
def test_refuses_fewer_epochs_than_a_window(case: Case, name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match="window=10: needs 10 epochs, found 9"):
        scores_of(name, case, settings)


@pytest.mark.parametrize("name", ["entropy", "margin", "least_confidence", "grand"])
def test_a_final_pass_that_is_not_finite_is_refused(tmp_path: Path, name: str) -> None:
    case = make_case(tmp_path, runs=1)
    (run,) = case.context.observations
    final, steps = FinishedObservation.parts[run.folder]
    spoilt = {key: np.where(np.arange(values.size) == 5, np.nan, values) for key, values in final.values.items()}
    FinishedObservation.parts[run.folder] = (InMemoryFinal(spoilt), steps)
    with pytest.raises(MethodError, match="of sample 5 is not finite"):
        scores_of(name, case, {})


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("tdds", {"window": 2}, "window=2"),
        ("dyn_unc", {"window": 1}, "window=1"),
        ("dual", {"keep": "easy"}, "sampling prefers high scores"),
        ("ccs", {"beta": 1.0}, "beta=1.0"),
        ("ccs", {"score": "aun"}, "score='aun'"),
        ("aum", {"softmx": True}, "did you mean 'softmax'"),
    ],
)
def test_settings_are_checked(name: str, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        get_method(name).configure(settings)
