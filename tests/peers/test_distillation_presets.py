"""Every preset against the values of the public scripts, `values/distillation_presets.json`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fastdc.methods import get_method
from fastdc.methods.bases.patches import tiles_per_side
from fastdc.methods.bases.recovery_methods import RecoverConfig, RecoverMethod
from fastdc.methods.distillation.rded import PatchConfig

TABLE = json.loads((Path(__file__).parent / "values" / "distillation_presets.json").read_text())["rows"]
RECOVERING = [row for row in TABLE if row["method"] != "rded"]
FAMILY = ("sre2l", "cda", "gvbsm", "lpld", "dwa", "edc", "delt", "fadrm")
PAPER_SIZES = (224, 64, 32)
LARGEST_IPC = 200


def name_of(row: dict[str, Any]) -> str:
    return f"{row['method']}-{row['image_size']}-{row['teachers']}"


def family(name: str) -> RecoverMethod:
    method = get_method(name)
    assert isinstance(method, RecoverMethod)
    return method


def configured(name: str, teachers: int = 1, **settings: Any) -> RecoverConfig:
    config = family(name).configure({"teachers": ",".join(["observer"] * teachers), **settings})
    assert isinstance(config, RecoverConfig)
    return config


@pytest.mark.parametrize("row", RECOVERING, ids=name_of)
def test_a_preset_equals_its_script(row: dict[str, Any]) -> None:
    method, config = family(row["method"]), configured(row["method"], row["teachers"])
    found = asdict(method.recipe(config, row["image_size"]))
    found["stages"] = list(found["stages"])
    if row["values"]["crop_min"] is None:  # the script shifts the image in a margin, and has no crop
        del found["crop_min"], row["values"]["crop_min"]
    if row["values"]["batch_size"] is None:  # the script passes ipc, of which the paper's largest is 200
        assert found.pop("batch_size") == LARGEST_IPC
        del row["values"]["batch_size"]
    assert found == row["values"]
    assert method.inferred(config, row["image_size"]) == ()
    assert method.reductions(config, row["image_size"]) == ()
    if row["method"] in ("gvbsm", "edc"):
        fewer = configured(row["method"], row["teachers"] - 1)
        reduction = f"{row['teachers'] - 1} instead of {row['teachers']} teachers"
        assert method.reductions(fewer, row["image_size"]) == (reduction,)


@pytest.mark.parametrize("row", [row for row in TABLE if row["method"] == "rded"], ids=name_of)
def test_defaults_of_rded_equal_its_script(row: dict[str, Any]) -> None:
    config = get_method("rded").configure({})
    assert isinstance(config, PatchConfig)
    factor = tiles_per_side(config.factor, row["image_size"])
    found = {"pool": config.pool, "crops": config.crops, "min_scale": config.min_scale, "factor": factor}
    assert found == row["values"]


def test_settings_in_no_script_are_inferred() -> None:
    scripts = {(row["method"], row["image_size"]) for row in RECOVERING}
    for name in FAMILY:
        for size in PAPER_SIZES:
            inferred = family(name).inferred(configured(name), size)
            assert bool(inferred) == ((name, size) not in scripts), (name, size)
            assert set(inferred) <= set(asdict(family(name).recipe(configured(name), size)))


def test_a_setting_that_is_given_is_not_inferred() -> None:
    delt = family("delt")
    assert "rounds" in delt.inferred(configured("delt"), 64)
    assert "rounds" not in delt.inferred(configured("delt", rounds=4), 64)
    assert delt.inferred(configured("delt", preset="paper224"), 64) == ()
    assert delt.inferred(configured("delt", preset="paper64"), 224) == delt.inferred(configured("delt"), 64)
