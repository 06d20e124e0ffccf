"""A request is checked when it is made, and its identity contains all that determines the set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import describe_beton
from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.keys import content_key
from fastdc.observe import ObserverConfig
from fastdc.subsets.request import SubsetRequest
from tests.subsets.requests import OBSERVER, WINDOW, subset_identity


def make(betons: Any, workdir: Path, method: str, **options: Any) -> SubsetRequest:
    values: dict[str, Any] = {"workdir": workdir, "ipc": 2, "image_size": 28, "observer": OBSERVER, **options}
    return SubsetRequest.make(method, betons.train, **values)


def test_identity_contains_exactly_what_the_subset_depends_on() -> None:
    def key(method: str, settings: dict[str, Any], seed: int, observer: ObserverConfig = OBSERVER) -> dict[str, Any]:
        return subset_identity(method, settings, "train", 10, seed, 224, observer)

    assert key("el2n", {}, 0, OBSERVER) == key("el2n", {"keep": "easy"}, 7, OBSERVER)
    other = OBSERVER.model_copy(update={"lr": 0.2})
    assert key("random", {}, 0) == key("random", {}, 0, other)
    assert key("random", {}, 0) != key("random", {}, 1)
    assert key("el2n", {}, 0) != key("el2n", {}, 0, other)
    full = [subset_identity("full", {}, "t", *axes, OBSERVER) for axes in ((10, 0, 28), (50, 1, 64))]
    assert full[0] == full[1]


def test_a_request_made_from_names_has_the_identity_of_its_parts(betons: Any, tmp_path: Path) -> None:
    train_hash = describe_beton(betons.train).content_hash
    request = make(betons, tmp_path, "el2n", settings={"keep": "hard", **WINDOW}, seed=5)
    parts = subset_identity("el2n", {"keep": "hard", **WINDOW}, train_hash, 2, 5, 28, OBSERVER)
    assert request.identity() == parts
    assert request.key == content_key(parts)
    assert request.provenance()["variant"] == "el2n[keep=hard,last_epoch=3]"
    assert replace(request, ipc=3).identity() == {**parts, "ipc": 3}


def test_settings_choose_the_observer(betons: Any, tmp_path: Path) -> None:
    given = make(betons, tmp_path, "el2n", observer={"arch": "convnet_w4", "epochs": 20}).observer
    assert (given.arch, given.epochs, given.image_size) == ("convnet_w4", 20, 28)
    with pytest.raises(ConfigError, match="unknown setting 'epoch'"):
        make(betons, tmp_path, "el2n", observer={"epoch": 20})


def test_only_methods_that_depend_on_the_observer_train_it(betons: Any, tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {"random": {}, "el2n": WINDOW, "rded": {"teachers": "observer"}}
    trained = {name: make(betons, tmp_path, name, settings=own).trains_observer for name, own in settings.items()}
    assert trained == {"random": False, "el2n": True, "rded": True}


@pytest.mark.parametrize(
    ("method", "options", "error", "match"),
    [
        ("random", {"ipc": 0}, MethodError, "ipc=0; expected at least 1"),
        ("random", {"image_size": 7}, ConfigError, "image_size=7: expected at least 8 px"),
        ("random", {"teacher_order": "text"}, ConfigError, "no teacher here needs it"),
        ("el2n", {"settings": {"last_epoch": 4}}, MethodError, "up to 4, its schedule has 3"),
    ],
)
def test_impossible_requests_are_refused(
    betons: Any, tmp_path: Path, method: str, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make(betons, tmp_path, method, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "settings"), [("d2", {"score": "el2n"}), ("d2", {"mis_score": "el2n"}), ("ccs", {"score": "el2n"})]
)
def test_methods_that_build_on_el2n_need_its_window(
    betons: Any, tmp_path: Path, method: str, settings: dict[str, str]
) -> None:
    short, (name,) = {"epochs": 9}, settings
    expected = rf"method {method}: its windows need 10 epochs of the observer, it reads 9; .* settings are {name}=el2n"
    with pytest.raises(MethodError, match=expected):
        make(betons, tmp_path, method, settings=settings, observer=short)
    make(betons, tmp_path, method, observer=short)
    make(betons, tmp_path, method, settings=settings, observer={"epochs": 10})
