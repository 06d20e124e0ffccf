"""The choice of an observer for a request that names none."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import describe_beton
from fastdc.common.errors import ConfigError, ManifestError
from fastdc.observe import ObserverConfig, choose_observer
from fastdc.observe.train_observer import observe

SMALL = ObserverConfig(arch="convnet_w8", epochs=2, batch_size=32, lr=0.05, image_size=28, threads=1)


def choose(betons: Any, workdir: Path, **options: Any) -> ObserverConfig:
    return choose_observer(betons.train, describe_beton(betons.train).content_hash, workdir, **options)


def test_default_follows_the_image_size(betons: Any, tmp_path: Path) -> None:
    assert choose(betons, tmp_path, defaults={"image_size": 64}) == ObserverConfig(image_size=64).resolved()
    assert choose(betons, tmp_path) == ObserverConfig(image_size=28).resolved()
    given = choose(betons, tmp_path, given={"lr": 0.2, "image_size": 32}, defaults={"image_size": 64, "threads": 3})
    assert (given.image_size, given.lr, given.threads) == (32, 0.2, 3)
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        choose(betons, tmp_path, given={"epoch": 3})


def test_the_first_trained_observer_is_the_default(betons: Any, tmp_path: Path) -> None:
    first = SMALL.model_copy(update={"runs": 2}).resolved()
    observe(betons.train, tmp_path, first, stop_after=1)
    for lr in (0.3, 0.01):  # the choice must not change when more are trained
        observe(betons.train, tmp_path, SMALL.model_copy(update={"lr": lr}), stop_after=1)
        assert choose(betons, tmp_path, defaults={"image_size": 64}) == first
    assert choose_observer(betons.train, "another set", tmp_path) == ObserverConfig(image_size=28).resolved()


def test_an_observer_of_older_arithmetic_is_not_chosen(betons: Any, tmp_path: Path) -> None:
    low = SMALL.model_copy(update={"precision": "bf16"})
    (record,) = observe(betons.train, tmp_path, low, stop_after=1)
    assert choose(betons, tmp_path) == low.resolved()
    path = record.folder / "observer.json"
    content = json.loads(path.read_text())
    del content["identity"]["numerics"]  # as before logits were float32
    path.write_text(json.dumps(content))
    assert choose(betons, tmp_path) == ObserverConfig(image_size=28).resolved()


def test_a_damaged_record_is_reported(betons: Any, tmp_path: Path) -> None:
    (record,) = observe(betons.train, tmp_path, SMALL, stop_after=1)
    (record.folder / "observer.json").write_text("{")
    with pytest.raises(ManifestError, match="damaged observer record"):
        choose(betons, tmp_path)


def test_resolving_replaces_auto() -> None:
    made = ObserverConfig(device="cuda", threads=3).resolved()
    assert (made.precision, made.threads) == ("bf16", 3)
    assert ObserverConfig(device="cpu").resolved().precision == "fp32"
    on_cpu = [ObserverConfig(device="cpu", threads=threads).identity("t", 0) for threads in (1, 2)]
    on_cuda = [ObserverConfig(device="cuda", threads=threads).identity("t", 0) for threads in (1, 2)]
    assert on_cpu[0] != on_cpu[1]
    assert on_cuda[0] == on_cuda[1]
