"""Settings of the recover family: presets by size, overrides, and reductions."""

import subprocess
import sys
from typing import Any

import pytest

from fastdc.common.errors import ConfigError
from fastdc.methods import get_method
from fastdc.methods.bases.recovery_methods import RecoverMethod
from fastdc.recover.recovery_recipe import Recipe


def family(name: str) -> RecoverMethod:
    method = get_method(name)
    assert isinstance(method, RecoverMethod)
    return method


def recipe_of(name: str, side: int, **settings: Any) -> Recipe:
    return family(name).recipe(family(name).configure(settings), side)


@pytest.mark.parametrize(("side", "other"), [(28, 32), (33, 64), (127, 64), (128, 224), (512, 224)])
def test_a_size_takes_the_preset_of_the_nearest_size(side: int, other: int) -> None:
    for name in ("sre2l", "cda", "gvbsm", "lpld", "dwa", "edc", "delt", "fadrm"):  # values: tests/peers
        assert recipe_of(name, side) == recipe_of(name, other)


def test_late_groups_join_every_500_iterations() -> None:
    assert recipe_of("delt", 224).join_every == 500


def test_several_teachers_have_their_own_presets() -> None:
    config = family("fadrm").configure({"preset": "cpu", "teachers": "a,b"})
    recipe = family("fadrm").recipe(config, 64)
    assert (recipe.iterations, recipe.learning_rate, recipe.stages) == (100, 0.25, (1.0,) * 4)
    assert family("fadrm").reductions(config, 64) == ("100 instead of 2,000 iterations",)


def test_a_crop_replaces_a_margin() -> None:
    assert (recipe_of("gvbsm", 64).margin, recipe_of("gvbsm", 64, crop_min=0.2).margin) == (8, 0)


def test_starts_of_dwa_are_squashed_or_cropped() -> None:
    assert family("dwa").configure({}).fit == "squash"
    assert family("dwa").configure({"fit": "crop"}).fit == "crop"


@pytest.mark.parametrize(
    ("name", "side", "visits"),
    [
        ("sre2l", 224, 4000 * 100),
        ("lpld", 224, 4000 * 100 + 900 / 3),  # the classes' statistics
        ("gvbsm", 224, 4 * 4000 * 100 + 900 / 3),
        ("edc", 64, 4 * 2000 * 100 + 900 / 3),
        ("edc", 224, 4 * 1000 * 100 + 900 / 3 + 900 / 3 + 600 * 4 / 3),  # also all images, and crops of the easiest
        ("delt", 224, 4000 * 100 + 900 / 3),
        ("fadrm", 224, 2000 * 100 + 600 * 5 / 3),
    ],
)
def test_a_dry_run_counts_what_the_recovery_needs(name: str, side: int, visits: float) -> None:
    """Of 900 training images in 2 classes; pools hold 300 images of a class, an image forward counts as a third."""
    method = family(name)
    assert method.network_visits(method.configure({}), 100, 900, side, 2) == pytest.approx(visits)


def test_settings_override_the_preset() -> None:
    recipe = recipe_of("dwa", 224, iterations=7, steps=3, jitter=0, preset="paper64")
    assert (recipe.iterations, recipe.variance_weight, recipe.jitter) == (7, 11.0, 0)
    assert recipe.steps == 3  # type: ignore[attr-defined]
    assert recipe_of("cda", 224, preset="paper64") == recipe_of("cda", 64)


def test_cpu_preset_shortens_the_papers_recipe() -> None:
    recipe = recipe_of("sre2l", 64, preset="cpu")
    assert (recipe.iterations, recipe.learning_rate, recipe.jitter) == (100, 0.1, 4)


def test_reductions_name_settings_below_the_paper() -> None:
    config = family("dwa").configure({"preset": "cpu", "batch_size": 10, "steps": 3})
    assert family("dwa").reductions(config, 64) == (
        "100 instead of 2,000 iterations",
        "10 instead of 200 images a batch",
        "3 instead of 12 steps of weight adjustment",
    )
    more = family("sre2l").configure({"iterations": 9000, "batch_size": 200})
    assert family("sre2l").reductions(more, 64) == ()


@pytest.mark.parametrize(
    "settings", [{"iterations": 0}, {"crop_min": 0}, {"learning_rate": -1}, {"preset": "gpu"}, {"iteration": 5}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="method sre2l"):
        family("sre2l").configure(settings)


def test_settings_and_recipes_need_no_torch() -> None:
    code = (
        "import sys; from fastdc.methods import get_method\n"
        "for name in ('sre2l', 'cda', 'dwa', 'delt', 'fadrm'):\n"
        "    method = get_method(name); config = method.configure({'preset': 'cpu'})\n"
        "    method.reductions(config, 64), method.recipe(config, 64), method.teachers(config)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
