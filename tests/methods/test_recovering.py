"""The recover family's settings: presets by size, what overrides them, what counts as reduced."""

import subprocess
import sys
from typing import Any

import pytest

from fastdc.errors import ConfigError
from fastdc.methods import get_method
from fastdc.methods.recovering import RecoverMethod
from fastdc.recover.recipe import Recipe

PAPER: dict[tuple[str, int], dict[str, Any]] = {
    ("sre2l", 224): {"iterations": 4000, "learning_rate": 0.25, "matching_weight": 0.01, "jitter": 32, "milestone": 0},
    ("sre2l", 64): {"iterations": 4000, "learning_rate": 0.1, "matching_weight": 1.0, "jitter": 4},
    ("sre2l", 32): {"iterations": 1000, "learning_rate": 0.25, "matching_weight": 0.01},
    ("cda", 224): {"iterations": 4000, "learning_rate": 0.25, "matching_weight": 0.01, "jitter": 32, "milestone": 1},
    ("cda", 64): {"iterations": 4000, "learning_rate": 0.4, "matching_weight": 0.05, "jitter": 4, "milestone": 1},
    ("dwa", 224): {"iterations": 2000, "variance_weight": 2, "steps": 15, "radius": 0.015, "jitter": 32},
    ("dwa", 28): {"iterations": 2000, "variance_weight": 11, "steps": 12, "radius": 0.015},
    ("delt", 224): {"iterations": 4000, "jitter": 0, "milestone": 1, "rounds": 8, "join_every": 500},
    ("fadrm", 224): {"iterations": 2000, "residual": 0.5, "learning_rate": 0.25, "jitter": 32},
    ("fadrm", 64): {"iterations": 1000, "learning_rate": 0.01, "stages": (1.0, 1.0)},
    ("fadrm", 32): {"iterations": 2000, "stages": (1.0,) * 4},
}


def family(name: str) -> RecoverMethod:
    method = get_method(name)
    assert isinstance(method, RecoverMethod)
    return method


def recipe_of(name: str, side: int, **settings: Any) -> Recipe:
    return family(name).recipe(family(name).configure(settings), side)


@pytest.mark.parametrize(("name", "side"), PAPER)
def test_defaults_are_the_papers(name: str, side: int) -> None:
    recipe = recipe_of(name, side)
    assert {key: getattr(recipe, key) for key in PAPER[name, side]} == PAPER[name, side]
    assert (recipe.batch_size, recipe.crop_min, recipe.crop_max) == (100, 0.08, 1.0)
    assert family(name).reductions(family(name).configure({}), side) == ()


def test_settings_go_before_the_preset() -> None:
    recipe = recipe_of("dwa", 224, iterations=7, steps=3, jitter=0, preset="paper64")
    assert (recipe.iterations, recipe.variance_weight, recipe.jitter) == (7, 11.0, 0)
    assert recipe.steps == 3  # type: ignore[attr-defined]
    assert recipe_of("cda", 224, preset="paper64") == recipe_of("cda", 64)


def test_cpu_preset_shortens_the_papers_recipe() -> None:
    recipe = recipe_of("sre2l", 64, preset="cpu")
    assert (recipe.iterations, recipe.learning_rate, recipe.jitter) == (100, 0.1, 4)


def test_reductions_say_what_is_below_the_paper() -> None:
    config = family("dwa").configure({"preset": "cpu", "batch_size": 10, "steps": 3})
    assert family("dwa").reductions(config, 64) == (
        "100 instead of 2,000 iterations",
        "10 instead of 100 images a batch",
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
