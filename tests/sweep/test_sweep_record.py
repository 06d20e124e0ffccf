"""The record of a sweep contains every automatic choice, once for equal sweeps."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.common.threads import usable_cpus
from fastdc.observe.observer_config import ObserverConfig
from fastdc.sweep.cells import make_plan
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.sweep.sweep_record import read_records, record_sweep

Make = Callable[..., SweepConfig]


def test_equal_sweeps_have_one_record(make_config: Make) -> None:
    config = make_config(threads=0, observer={"arch": "convnet1_w4", "epochs": 7}, track=())
    config.workdir.mkdir()
    for each in (config, config, config.model_copy(update={"seeds": (4,)})):
        record_sweep(each, make_plan(each))
    one, two = sorted(read_records(config.workdir), key=lambda record: len(record["config"]["seeds"]))
    assert (one["config"]["seeds"], two["config"]["seeds"]) == ([4], [0, 1])
    assert two["config"]["threads"] == usable_cpus()
    assert two["config"]["precision"] in ("fp32", "bf16")
    assert two["config"]["observer"]["epochs"] == 7
    assert two["config"]["observer"]["device"] == two["device"]
    assert Path(two["config"]["train"]).is_absolute()
    assert "track" not in two["config"]
    assert "compile" not in two["config"]  # as in records from before there was such a key


def test_a_home_folder_is_recorded_as_its_path(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user has another home; other paths stay as they were written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "kept.txt").write_text("bark/1\nmoss/1\nsand/1\n")
    monkeypatch.chdir(tmp_path)
    config = make_config(methods="random,mine=list:~/kept.txt[fit=pad],here=list:./kept.txt")
    config.workdir.mkdir()
    record_sweep(config, make_plan(config))
    (record,) = read_records(config.workdir)
    assert record["config"]["methods"] == ["random", f"mine=list:{tmp_path}/kept.txt[fit=pad]", "here=list:./kept.txt"]


def test_compiling_is_recorded(make_config: Make) -> None:
    config = make_config(compile=True)
    config.workdir.mkdir()
    record_sweep(config, make_plan(config))
    (record,) = read_records(config.workdir)
    assert SweepConfig(**record["config"]).compile


def test_a_recorded_sweep_has_the_same_keys_without_the_folder(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An observer that was found in the folder is recorded like one that was given."""
    found = ObserverConfig(arch="convnet1_w4", epochs=9, image_size=28, threads=1, batch_size=16).resolved()
    module = sys.modules["fastdc.observe.choose_observer"]  # `fastdc.observe` exports a function of this name
    monkeypatch.setattr(module, "first_observer", lambda *_: found)
    config = make_config(methods="entropy", observer={}, holdout=0.25, val=None)
    config.workdir.mkdir()
    plan = make_plan(config)
    record_sweep(config, plan)
    monkeypatch.undo()
    (record,) = read_records(config.workdir)
    again = SweepConfig(**{**record["config"], "workdir": tmp_path / "other"})
    assert [cell.key for cell in make_plan(again).cells] == [cell.key for cell in plan.cells]
    assert record["val"] is None
    assert json.loads((again.train.with_suffix(".json")).read_text())["content_hash"] == record["train"]
