"""The readings of compute-aware difficulty, and the methods based on it: CAD-Prune, CA2D, R-CAD."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.keys import content_key
from fastdc.methods import MethodContext, get_method
from fastdc.observe.observer_config import ObserverConfig
from fastdc.observe.record_needs import WHOLE_SCHEDULE
from fastdc.subsets.compress import compress_beton
from fastdc.subsets.request import check_observer
from tests.conftest import Betons
from tests.methods.final_pass import made_up_context
from tests.methods.observed import Case, make_case
from tests.subsets.requests import subset_identity

KEYS = {
    ("cad_prune",): "4567a703e5c57463e44b34e35de61eb6",
    ("cad_prune", ("last_epoch", 9), ("window", 4)): "fa3c53afc2908a4372b5a98a967b362f",
    ("ca2d",): "61a176993fcd1b40a2687fd62a44f3fc",
    ("ca2d", ("pool", 40), ("keep", "easy")): "80809a5318b8645cef45d8999fc0585b",
}
"""Keys of subsets before there were two readings."""


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("observed"))


def key(name: str, settings: dict[str, Any]) -> str:
    observer = ObserverConfig(arch="convnet_w32", epochs=10, image_size=64, threads=1, device="cpu", precision="fp32")
    return content_key(subset_identity(name, settings, "a" * 32, 10, 0, 64, observer))


@pytest.mark.parametrize("case_of", list(KEYS))
def test_the_first_reading_keeps_its_keys(case_of: tuple[Any, ...]) -> None:
    name, *pairs = case_of
    assert key(name, dict(pairs)) == KEYS[case_of]
    assert key(name, {**dict(pairs), "reading": "true_class"}) == KEYS[case_of]
    assert key(name, {**dict(pairs), "reading": "el2n"}) != KEYS[case_of]


def test_an_unknown_reading_is_refused() -> None:
    with pytest.raises(ConfigError, match="reading='p_y'"):
        get_method("cad_prune").configure({"reading": "p_y"})


@pytest.mark.parametrize("name", ["cad_prune", "ca2d", "r_cad"])
def test_the_second_reading_needs_one_epoch_more(name: str) -> None:
    method = get_method(name)
    shortest = {
        reading: method.shortest_log(method.configure({"reading": reading, "window": 4, "last_windows": 3}))
        for reading in ("true_class", "el2n")
    }
    assert shortest == {"true_class": 6, "el2n": 7}
    observer = ObserverConfig(epochs=30)
    check_observer(method, method.configure({"reading": "el2n", "last_epoch": 8}), observer)
    with pytest.raises(MethodError, match=rf"method {name}: its windows need 8 epochs of the observer, it reads 7"):
        check_observer(method, method.configure({"reading": "el2n", "last_epoch": 7}), observer)
    with pytest.raises(MethodError, match=rf"method {name}: reads the observer's epochs up to 31"):
        check_observer(method, method.configure({"last_epoch": 31}), observer)


def test_which_settings_are_inferred() -> None:
    """The reading is inferred where fastdc chose it, and not where an official code has it."""
    inferred = {name: get_method(name).inferred(get_method(name).configure({}), 64) for name in ("cad_prune", "ca2d")}
    assert set(inferred["cad_prune"]) == {"reading", "last_epoch"}
    assert set(inferred["ca2d"]) == {"reading", "last_epoch", "pool"}
    r_cad = get_method("r_cad")
    assert r_cad.inferred(r_cad.configure({}), 64) == ("last_epoch",)


def test_the_readings_rank_differently(case: Case) -> None:
    method = get_method("cad_prune")
    kept = {
        reading: set(method.compress(case.context, method.configure({"reading": reading}), 4, 0).sources.ravel())
        for reading in ("true_class", "el2n")
    }
    assert 4 <= len(kept["true_class"] & kept["el2n"]) < 16


def test_ca2d_passes_the_reading_on(case: Case) -> None:
    ca2d, settings = get_method("ca2d"), {"reading": "el2n", "last_epoch": 9, "window": 3, "last_windows": 4}
    expected = get_method("cad_prune").scores(case.context, get_method("cad_prune").configure(settings))
    assert expected is not None
    found = ca2d.scores(case.context, ca2d.configure(settings))
    assert found is not None
    assert found.tolist() == expected.tolist()


def r_cad_reference(context: MethodContext, weights: np.ndarray, ipc: int) -> list[int]:
    """Choose by weighted facility location in float64: f of every larger set, summed from scratch."""
    rows = context.observations[0].final.features().astype(np.float64)
    unit, chosen = rows / np.linalg.norm(rows, axis=1, keepdims=True), []
    for label in range(len(context.classes)):
        members = np.flatnonzero(context.labels == label)
        kernel, own = np.maximum(unit[members] @ unit[members].T, 0), list[int]()
        for _ in range(ipc):
            values = [
                -1.0 if j in own else (weights[members] * kernel[:, [*own, j]].max(axis=1)).sum()
                for j in range(members.size)
            ]
            own.append(int(np.argmax(values)))
        chosen += members[own].tolist()
    return chosen


def cad_reference(series: np.ndarray, last_epoch: int, window: int, last_windows: int, omitted: int) -> np.ndarray:
    """Compute CAD from [T, N] by slices; `omitted` epochs at the end are in no window."""
    ends = [last_epoch - omitted - back for back in range(last_windows)]
    return np.mean([series[end - window : end].astype(np.float64).std(axis=0, ddof=1) for end in ends], axis=0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("settings", [{}, {"reading": "true_class", "last_epoch": 9, "window": 3, "last_windows": 4}])
def test_r_cad_is_its_definition(seed: int, settings: dict[str, Any]) -> None:
    """Every field of the log is the same series here, so the readings differ only in their windows."""
    context, method = made_up_context(np.arange(72) % 3, seed), get_method("r_cad")
    log = context.observations[0].log["el2n"]  # type: ignore[attr-defined]
    weights = cad_reference(log, 9, 3, 4, omitted=0) if settings else cad_reference(log, 8, 6, 2, omitted=1)
    config = method.configure(settings)
    scores = method.scores(context, config)
    assert scores is not None
    np.testing.assert_allclose(scores, weights, rtol=1e-6)
    found = method.compress(context, config, 5, 0)
    expected = r_cad_reference(context, weights, 5)
    assert found.sources[:, 0].tolist() == expected
    assert found.details == {"score_min": scores[expected].min(), "score_max": scores[expected].max()}
    ready = replace(context, scores=scores)
    assert method.compress(ready, config, 5, 0).sources.tolist() == found.sources.tolist()


def test_r_cad_takes_one_of_each_kind() -> None:
    """Three samples are equal and steady, two equal and unsteady: CAD-Prune takes the two, R-CAD one of each kind."""
    context = made_up_context(np.zeros(5, np.int64))
    run: Any = context.observations[0]
    run.final.rows[:] = np.repeat([[1.0, 0.1] * 6, [0.1, 1.0] * 6], [3, 2], axis=0)
    steady = np.linspace(0.5, 0.6, 12)[:, None] + np.zeros((12, 3))
    wavering = np.where(np.arange(12) % 2, 0.2, 1.2)[:, None] + np.zeros((12, 2))
    run.log["el2n"][:] = np.concatenate([steady, wavering], axis=1)
    kept = {
        name: get_method(name).compress(context, get_method(name).configure({"reading": "el2n"}), 2, 0)
        for name in ("cad_prune", "r_cad")
    }
    assert kept["cad_prune"].sources.ravel().tolist() == [3, 4]
    assert kept["r_cad"].sources.ravel().tolist() == [3, 0]


def test_r_cad_reads_k_epochs_and_the_features_at_the_end() -> None:
    method = get_method("r_cad")
    needs = method.observer_needs(method.configure({"last_epoch": 11}))
    assert (needs.epochs, needs.final, needs.outputs, needs.exact) == (11, True, False, False)
    assert method.observer_epochs(method.configure({})) == WHOLE_SCHEDULE


def test_r_cad_from_a_beton_with_a_trained_observer(betons: Betons, tmp_path: Path) -> None:
    settings = {"arch": "convnet_w32", "epochs": 9, "image_size": 28, "threads": 1}
    made = compress_beton(
        "r_cad",
        betons.train,
        tmp_path / "r_cad.beton",
        ipc=4,
        image_size=28,
        workdir=tmp_path / "work",
        observer=ObserverConfig.make(settings, "observer"),
        threads=1,
    )
    assert made.manifest.counts == (4, 4, 4)
    lines = [line.split("\t") for line in (tmp_path / "r_cad.list.tsv").read_text().splitlines() if line[0] != "#"]
    assert len(lines) == 12
    assert all(float(line[2]) > 0 for line in lines), "the list names each image's CAD"
