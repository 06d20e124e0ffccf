"""Every training recipe against the values of the public scripts, `values/training_recipes.json`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fastdc.nn.device import choose_compute
from fastdc.train import get_protocol
from fastdc.train.batch_augment import Draw, augment_batch
from fastdc.train.network_training import make_optimizer
from fastdc.train.protocols import all_protocols
from fastdc.train.schedules import epochs_by_ipc, rate_share

TABLE = json.loads((Path(__file__).parent / "values" / "training_recipes.json").read_text())
ROWS = TABLE["rows"]
BATCH, SIDE = 3, 6


def name_of(row: dict[str, Any]) -> str:
    return str(row["protocol"])


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_recipe_equals_its_script(row: dict[str, Any]) -> None:
    protocol = get_protocol(row["protocol"])
    assert {name: getattr(protocol, name) for name in row["values"]} == row["values"]
    side, resized = row["validate_side"]
    assert round(side * protocol.validate_resize) == resized
    assert row["commit"][:7] in all_protocols()[row["protocol"]].recipe.source or row["protocol"] == "hard-sgd"
    assert protocol.name == row["protocol"]


def test_every_protocol_has_a_source_and_every_published_recipe_has_values() -> None:
    assert all(preset.recipe.source for preset in all_protocols().values())
    own = {"hard", "hard-small", "soft", "soft-small"}
    assert {row["protocol"] for row in ROWS} == all_protocols().keys() - own


@pytest.mark.parametrize(("images", "batch"), TABLE["cim_batches"])
def test_cims_batches(images: int, batch: int) -> None:
    assert get_protocol("cim-hl").batch_for(images) == batch


@pytest.mark.parametrize("row", TABLE["minimax_epochs"], ids=str)
def test_minimax_epochs(row: dict[str, int]) -> None:
    images = row["ipc"] * row["classes"]
    assert epochs_by_ipc(row["ipc"], row["classes"]) == row["epochs"]
    assert get_protocol("minimax-hl").epochs_for(images, row["classes"]) == row["epochs"]


@pytest.mark.parametrize("name", TABLE["schedules"])
def test_a_schedule_equals_its_script(name: str) -> None:
    schedule, epochs = name.split()
    changes: list[list[float]] = TABLE["schedules"][name]
    found = [rate_share(schedule, epoch, int(epochs)) for epoch in range(int(epochs))]  # type: ignore[arg-type]
    if schedule == "linear":
        assert [[epoch, found[int(epoch)]] for epoch, _ in changes] == changes
        return
    steps = [epoch for epoch in range(int(epochs)) if epoch == 0 or found[epoch] != found[epoch - 1]]
    assert steps == [epoch for epoch, _ in changes]
    assert [found[epoch] for epoch in steps] == pytest.approx([rate for _, rate in changes], rel=1e-12)


@pytest.mark.parametrize("name", TABLE["augment"])
def test_augmented_images_equal_those_of_the_official_codes(name: str) -> None:
    kind, _, operation = name.partition(" ")
    operations = {"dsa": (operation,), "idc": ("flip", "color", operation, "cutout"), "jitter": ("jitter",)}[kind]
    uniform = (np.arange(BATCH)[:, None] * 0.37 + np.arange(8)[None] * 0.213 + 0.05) % 1.0
    normal = np.array([[0.5, -1.2, 0.3], [1.5, 0.1, -0.7], [-0.4, 0.8, 2.0]])
    draw = Draw(operations, uniform, normal, np.array([[0, 1, 2], [2, 0, 1], [1, 2, 0]]))
    levels = (np.arange(BATCH * 3 * SIDE * SIDE) * 7919 % 1009) / 1009 * 4 - 2
    images = torch.tensor(levels.reshape(BATCH, 3, SIDE, SIDE), dtype=torch.float32)
    found = augment_batch(images, draw).reshape(-1)
    expected = torch.tensor(TABLE["augment"][name])
    assert not torch.allclose(images.reshape(-1), expected, atol=0.1)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)  # the values have five decimals


@pytest.mark.parametrize(("name", "decayed"), [("hard", 1), ("hard-sgd", 3), ("cim-hl", 3), ("cad-hl", 3)])
def test_weight_decay_of_a_recipe(name: str, decayed: int) -> None:
    choose_compute("fp32", 1)
    protocol = get_protocol(name)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    optimizer = make_optimizer(model, protocol)
    found = [
        p for group in optimizer.param_groups if group["weight_decay"] == protocol.weight_decay for p in group["params"]
    ]
    assert len(found) == decayed
    assert all(group["lr"] == protocol.lr for group in optimizer.param_groups)
