"""`fastdc.scores` against independent float64 references, its direction, its invariances and its refusals."""

import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdc
from fastdc.common.errors import MethodError
from fastdc.common.threads import usable_cpus
from fastdc.methods import all_methods
from fastdc.methods.logit_trajectory import CHUNK
from fastdc.methods.scores_of_logits import SCORES
from tests.methods.score_references import REFERENCES, grand

NAMES = sorted(SCORES)
EPOCHS = 13


def make_case(seed: int, epochs: int, samples: int, classes: int, scale: float, kind: Any) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    drift = generator.standard_normal((1, samples, classes)) * scale
    logits = (drift + generator.standard_normal((epochs, samples, classes)) * scale / 2).astype(kind)
    if seed % 3 == 0:
        logits = np.round(logits).astype(kind)  # many ties
    labels = generator.integers(0, classes, samples)
    features = generator.standard_normal((samples, 7)).astype(np.float32)
    return {"logits": logits, "labels": labels, "features": features}


def compute(name: str, case: dict[str, Any], sign: Any = "published", **constants: float) -> np.ndarray:
    features = {"features": case["features"]} if name == "grand" else {}
    return fastdc.scores(name, case["logits"], case["labels"], sign=sign, **features, **constants)


def reference(name: str, case: dict[str, Any], **constants: float) -> np.ndarray:
    logits, labels = case["logits"], case["labels"]
    if name == "grand":
        return np.array([grand(logits[:, i], int(y), case["features"][i]) for i, y in enumerate(labels)])
    return np.array([REFERENCES[name](logits[:, i], int(y), **constants) for i, y in enumerate(labels)])


def test_the_names() -> None:
    """The scores are those of methods that rank by logits, CCS's AUM and the second reading of CAD-Prune."""
    assert set(SCORES) == {*REFERENCES, "grand"}
    assert set(SCORES) - {"aum_softmax", "cad_prune_el2n"} <= set(all_methods())
    assert all(score.formula and score.compute.__doc__ for score in SCORES.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_docstring_names_the_hard_end_of_the_published_score(name: str) -> None:
    direction = {"high": "Published: high = hard, the same", "low": "Published: LOW = hard"}[SCORES[name].hard]
    assert direction in (SCORES[name].compute.__doc__ or "")
    for constant, value in SCORES[name].constants.items():
        assert constant in (SCORES[name].compute.__doc__ or "")
        assert str(value).lstrip("0") in (SCORES[name].compute.__doc__ or "")


def easy_and_hard() -> dict[str, Any]:
    """Return two samples of class 0: one sure, right and steady; one unsteady, unsure and mostly wrong."""
    easy = np.tile([6.0, 0.0, -1.0], (EPOCHS, 1))
    hard = np.zeros((EPOCHS, 3))
    hard[:, 1] = np.where(np.arange(EPOCHS) % 2, 1.5, -0.5)  # at the last epoch a near tie
    return {"logits": np.stack([hard, easy], axis=1), "labels": np.zeros(2, int), "features": np.ones((2, 4))}


@pytest.mark.parametrize("name", NAMES)
def test_high_is_hard_for_every_score_and_the_published_sign_is_the_papers(name: str) -> None:
    case = easy_and_hard()
    hard, easy = compute(name, case, "hard")
    assert hard > easy
    assert fastdc.select([hard, easy], [0, 0], 1, keep="easy").tolist() == [1]
    assert fastdc.select([hard, easy], [0, 0], 1, keep="hard").tolist() == [0]
    features = {"features": case["features"]} if name == "grand" else {}
    assert fastdc.scores(name, case["logits"], case["labels"], **features).tolist() == [hard, easy]
    published = compute(name, case)
    assert (published[0] < published[1]) == (SCORES[name].hard == "low")
    if SCORES[name].hard == "high":
        assert published.tolist() == [hard, easy]
    else:
        turned = 1 - published if name in ("margin", "least_confidence") else -published
        np.testing.assert_allclose([hard, easy], turned, rtol=1e-12)


def test_the_readmes_example_keeps_the_easiest() -> None:
    case = make_case(11, EPOCHS, 60, 3, 2.0, np.float32)
    kept = fastdc.select(fastdc.scores("aum", case["logits"], case["labels"]), case["labels"], ipc=5, keep="easy")
    areas = reference("aum", case)
    for label in range(3):
        members = np.flatnonzero(case["labels"] == label)
        assert set(kept[5 * label : 5 * label + 5]) == set(members[np.argsort(-areas[members])[:5]])


@pytest.mark.parametrize("name", ["least_confidence", "margin", "entropy", "el2n", "grand"])
def test_sure_samples_never_tie(name: str) -> None:
    """p_max is 1 in float64 from a margin of 37 on; the scores still rank by the remainder."""
    margins = np.random.default_rng(0).permutation(np.linspace(5, 300, 60))
    logits = np.stack([margins, np.zeros(60), np.full(60, -3.0)], axis=1)[None]
    case = {"logits": logits, "labels": np.zeros(60, int), "features": np.ones((60, 2))}
    assert np.argsort(compute(name, case, "hard")).tolist() == np.argsort(-margins).tolist()


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(10, 16),
    st.integers(1, 9),
    st.integers(2, 12),
    st.sampled_from([0.01, 1.0, 20.0]),
    st.sampled_from([np.float32, np.float64]),
)
def test_equals_the_float64_reference(
    seed: int, epochs: int, samples: int, classes: int, scale: float, kind: Any
) -> None:
    case = make_case(seed, epochs, samples, classes, scale, kind)
    for name in NAMES:
        found = compute(name, case)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, reference(name, case), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("dyn_unc", {"window": 4}),
        ("dual", {"window": 13}),
        ("tdds", {"window": 5, "decay": 0.5}),
        ("cad_prune", {"window": 3, "last_windows": 5}),
        ("cad_prune_el2n", {"window": 3, "last_windows": 5}),
    ],
)
def test_constants_are_keywords(name: str, constants: dict[str, float]) -> None:
    case = make_case(1, EPOCHS, 6, 5, 2.0, np.float32)
    np.testing.assert_allclose(compute(name, case, **constants), reference(name, case, **constants), rtol=1e-9)
    assert not np.allclose(compute(name, case, **constants), compute(name, case))


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_large_logits_and_probabilities_of_zero(scale: float) -> None:
    """p underflows to exactly 0 and to exactly 1; nothing is NaN, and 0 is a value, not a gap."""
    case = make_case(2, EPOCHS, 20, 6, scale, np.float32)
    for name in NAMES:
        found = compute(name, case)
        assert np.isfinite(found).all(), name
        np.testing.assert_allclose(found, reference(name, case), rtol=1e-6, atol=1e-6, err_msg=name)


def test_tiny_values_keep_their_digits() -> None:
    """For a nearly certain sample, entropy, margin and EL2N have an exact first-order form in x = exp(-60)."""
    case = {"logits": np.array([[[60.0, 0.0]]]), "labels": np.array([0])}
    x = np.exp(-60.0)
    assert compute("entropy", case)[0] == pytest.approx(x * 61, rel=1e-12)
    assert compute("el2n", case)[0] == pytest.approx(np.sqrt(2) * x, rel=1e-12)
    case["logits"] = np.array([[[1e-9, 0.0]]])
    assert compute("margin", case)[0] == pytest.approx(0.5e-9, rel=1e-7)


def test_steady_samples_have_no_uncertainty_and_a_shift_changes_nothing() -> None:
    case = make_case(4, 1, 8, 5, 1.0, np.float64)
    steady = {**case, "logits": np.repeat(case["logits"], EPOCHS, axis=0)}
    for name in ("tdds", "dyn_unc", "dual", "cad_prune", "cad_prune_el2n"):
        np.testing.assert_allclose(compute(name, steady), 0, atol=1e-15)
    moved = make_case(4, EPOCHS, 8, 5, 1.0, np.float64)
    shifted = {**moved, "logits": moved["logits"] + 7.0}
    for name in NAMES:
        np.testing.assert_allclose(compute(name, shifted), compute(name, moved), rtol=1e-9, atol=1e-12)


def test_forgetting_counts() -> None:
    """A tie counts as wrong; a sample that was never correct gets T."""
    paths = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 0.5, 1, 0]]).T
    logits = np.stack([paths, 1 - paths], axis=2)  # 0.5 ties
    assert fastdc.scores("forgetting", logits, np.zeros(5, int)).tolist() == [0, 2, 0, 4, 2]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.permutations(range(9)))
def test_permuting_samples_permutes_every_score(seed: int, order: list[int]) -> None:
    case = make_case(seed, EPOCHS, 9, 4, 3.0, np.float32)
    moved = {
        "logits": case["logits"][:, order],
        "labels": case["labels"][order],
        "features": case["features"][order],
    }
    for name in NAMES:
        assert compute(name, moved).tolist() == compute(name, case)[order].tolist(), name


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.permutations(range(5)))
def test_renaming_classes_changes_nothing(seed: int, order: list[int]) -> None:
    case = make_case(seed, EPOCHS, 6, 5, 3.0, np.float32)
    renamed = {**case, "logits": case["logits"][:, :, order], "labels": np.argsort(order)[case["labels"]]}
    for name in NAMES:
        np.testing.assert_allclose(compute(name, renamed), compute(name, case), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_many_samples_equal_single_ones(name: str) -> None:
    """There are more samples than one task takes: chunks must be independent."""
    case = make_case(5, 10, 2100, 3, 2.0, np.float32)
    found = compute(name, case)
    for i in (0, 1023, 1024, 2099):
        alone = {key: value[:, i : i + 1] if key == "logits" else value[i : i + 1] for key, value in case.items()}
        assert compute(name, alone)[0] == found[i]


@pytest.mark.parametrize("name", ["forgetting", "tdds", "aum_softmax"])
def test_memory_beside_the_logits_does_not_grow_with_samples_times_epochs(name: str) -> None:
    logits, labels = np.zeros((50, 200_000, 2), np.float32), np.zeros(200_000, int)
    fastdc.scores(name, logits[:, :50], labels[:50])
    tracemalloc.start()
    fastdc.scores(name, logits, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    chunks = usable_cpus() * CHUNK * 50 * 8 * 2  # every thread holds a chunk or two of all epochs
    assert peak < chunks + 200_000 * 8 * 3


def test_any_memory_layout_and_type() -> None:
    case = make_case(6, EPOCHS, 7, 4, 2.0, np.float32)
    expected = compute("dual", case)
    for logits in (np.asfortranarray(case["logits"]), case["logits"].astype(">f4"), case["logits"].tolist()):
        np.testing.assert_allclose(compute("dual", {**case, "logits": logits}), expected, rtol=1e-6)
    whole = np.round(case["logits"]).astype(np.int16)
    assert (
        compute("aum", {**case, "logits": whole}).tolist() == compute("aum", {**case, "logits": whole * 1.0}).tolist()
    )
    narrow = case["logits"].astype(np.float16)
    widened = {**case, "logits": narrow.astype(np.float64)}
    assert compute("el2n", {**case, "logits": narrow}).tolist() == compute("el2n", widened).tolist()


def test_the_largest_logits_give_finite_scores() -> None:
    case = make_case(8, EPOCHS, 20, 3, 1.0, np.float64)
    case["logits"] = np.sign(case["logits"]) * 1e150
    for name in NAMES:
        assert np.isfinite(compute(name, case)).all(), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_a_logit_that_is_not_finite_is_named(name: str, value: float) -> None:
    case = make_case(7, EPOCHS, 5, 3, 1.0, np.float32)
    case["logits"][2, 3, 1] = value
    with pytest.raises(MethodError, match=rf"score {name}: epoch 3, sample 3: found logit {value}"):
        compute(name, case)


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("eln2", {}, "unknown score 'eln2'; did you mean 'el2n'"),
        ("el2n", {"logits": np.zeros((3, 2))}, r"logits \(3, 2\): expected \[T, N, C\]"),
        ("el2n", {"logits": np.zeros((3, 2, 1))}, "C >= 2"),
        ("el2n", {"logits": np.zeros((0, 2, 3))}, "T, N >= 1"),
        ("el2n", {"logits": np.zeros((3, 2, 2), complex)}, "complex128: expected real numbers"),
        ("el2n", {"logits": [[[1.0, 2.0]], [[3.0]]]}, "logits: expected an array of numbers"),
        ("tdds", {"logits": np.full((3, 2, 4), 1e160)}, r"found logit 1e\+160, expected finite ones up to 1e\+150"),
        ("el2n", {"labels": np.array([0, 1, 0])}, r"labels \(3,\): expected \[2\]"),
        ("el2n", {"labels": np.array([0, 4])}, r"label 4 of sample 1: expected 0\.\.3"),
        ("el2n", {"labels": np.array([-1, 0])}, "label -1 of sample 0"),
        ("el2n", {"labels": np.array([0.5, 0])}, "float64: expected integers"),
        ("el2n", {"window": 3}, "unknown constant 'window'"),
        ("aum", {"sign": "low"}, "score aum: sign='low'; expected 'hard' or 'published'"),
        ("dual", {"windw": 3}, "did you mean 'window'"),
        ("dual", {"window": 2.5}, "window=2.5: expected a whole number"),
        ("dual", {"window": np.nan}, "score dual: window=nan: expected a whole number"),
        ("dual", {"window": "ten"}, "window=ten: expected a whole number"),
        ("dual", {"window": 1}, "window=1: expected at least 2"),
        ("tdds", {"window": 3, "decay": None}, "decay=None: expected a number"),
        ("tdds", {"window": 2}, "window=2: expected at least 3"),
        ("tdds", {"window": 3, "decay": 0.0}, r"decay=0.0: expected above 0"),
        ("cad_prune", {"window": 2, "last_windows": 0}, "last_windows=0"),
        ("dyn_unc", {}, "window=10: needs 10 epochs, found 3"),
        ("dual", {}, "window=10: needs 10 epochs, found 3"),
        ("tdds", {}, "window=10: needs 10 epochs, found 3"),
        ("cad_prune", {}, "window=6: needs 7 epochs, found 3"),
        ("cad_prune_el2n", {}, "window=6: needs 8 epochs, found 3"),
        ("grand", {}, r"needs features=\[N, D\]"),
        ("grand", {"features": np.zeros((3, 5))}, r"features \(3, 5\): expected \[2, D\]"),
        ("grand", {"features": np.array([[0.0], [np.nan]])}, "features of sample 1"),
        ("grand", {"features": np.array([[0.0], [1e200]])}, "features of sample 1: their squares' sum is inf"),
        ("grand", {"features": np.zeros((2, 5), complex)}, "features of type complex128"),
        ("entropy", {"features": np.zeros((2, 5))}, "takes no features"),
    ],
)
def test_refuses(name: str, changes: dict[str, Any], match: str) -> None:
    arguments = {"logits": np.zeros((3, 2, 4)), "labels": np.array([0, 1]), **changes}
    with pytest.raises(MethodError, match=match):
        fastdc.scores(name, **arguments)


def test_naming_the_function_imports_no_numba() -> None:
    code = "import sys, fastdc; fastdc.scores; print([name for name in ('torch', 'numba') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"
