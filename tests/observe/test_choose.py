"""Which observer serves a request that names none."""

from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import describe_beton
from fastdc.errors import ConfigError
from fastdc.observe import ObserverConfig, choose_observer
from fastdc.observe.run import observe

SMALL = ObserverConfig(arch="convnet_w8", epochs=2, batch_size=32, lr=0.05, image_size=28, threads=1)


def choose(betons: Any, workdir: Path, **options: Any) -> ObserverConfig:
    return choose_observer(betons.train, describe_beton(betons.train).content_hash, workdir, **options)


def test_default_follows_the_image_size(betons: Any, tmp_path: Path) -> None:
    assert choose(betons, tmp_path, image_size=64) == ObserverConfig(image_size=64)
    assert choose(betons, tmp_path) == ObserverConfig(image_size=28)
    assert choose(betons, tmp_path, image_size=64, given={"lr": 0.2, "image_size": 32}).image_size == 32
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        choose(betons, tmp_path, given={"epoch": 3})


def test_the_only_trained_observer_is_used(betons: Any, tmp_path: Path) -> None:
    observe(betons.train, tmp_path, SMALL.model_copy(update={"runs": 2}), stop_after=1)
    assert choose(betons, tmp_path, image_size=64) == SMALL.model_copy(update={"runs": 2})
    assert choose_observer(betons.train, "another set", tmp_path, 64) == ObserverConfig(image_size=64)


def test_with_several_the_default_is_used(betons: Any, tmp_path: Path) -> None:
    for lr in (0.05, 0.1):
        observe(betons.train, tmp_path, SMALL.model_copy(update={"lr": lr}), stop_after=1)
    assert choose(betons, tmp_path, image_size=64) == ObserverConfig(image_size=64)
