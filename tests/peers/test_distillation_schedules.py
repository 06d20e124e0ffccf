"""Schedules, orders and choices against those of the official codes; see DISTILLATION.md."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.beton import BetonFile, Sample, write_samples
from fastdc.methods import MethodContext, get_method
from fastdc.methods.bases.patches import CropLaw, crop_losses, outward
from fastdc.methods.bases.recovery_methods import RecoverMethod
from fastdc.methods.bases.teacher_losses import image_losses
from fastdc.nn.device import Compute
from fastdc.recover.engine import joining
from fastdc.recover.pixels import PixelBatch
from fastdc.recover.recovery_recipe import Recipe
from fastdc.teachers.network import Teacher, freeze
from fastdc.teachers.resources import Teaching
from tests.peers.distillation_inputs import CLASSES, PlainNet, images, scene, values

SCHEDULES, RDED, CIM = values("schedules"), values("rded"), values("cim")
ITERATIONS = range(0, SCHEDULES["iterations"], SCHEDULES["every"])


@pytest.mark.parametrize("name", SCHEDULES["learning_rates"])
def test_learning_rates(name: str) -> None:
    recipe = Recipe(iterations=SCHEDULES["iterations"], learning_rate=SCHEDULES["learning_rate"])
    found = [recipe.learning_rate_at(iteration) for iteration in ITERATIONS]
    assert found == pytest.approx(SCHEDULES["learning_rates"][name], rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES["curricula"])
def test_curricula_of_crops(name: str) -> None:
    recipe = Recipe(iterations=SCHEDULES["iterations"], milestone=float(name.split("_")[-1]))
    found = [recipe.crop_min_at(iteration) for iteration in ITERATIONS]
    assert found == pytest.approx(SCHEDULES["curricula"][name], rel=1e-12)


@pytest.mark.parametrize("case", SCHEDULES["rounds"], ids=lambda case: f"{case['ipc']}-{case['start']}")
def test_delts_rounds(case: dict[str, Any]) -> None:
    """Compare the round in which every image of a batch joins, and the iterations of the batch."""
    method = get_method("delt")
    assert isinstance(method, RecoverMethod)
    recipe = method.recipe(method.configure({}), 224)
    groups, left = joining(recipe, case["ipc"], np.arange(case["start"], case["stop"]))
    assert groups.tolist() == case["joins"]
    assert (left.iterations, left.join_every) == (case["iterations"], 500)


@pytest.mark.parametrize("case", SCHEDULES["medium"], ids=lambda case: f"{case['images']}")
def test_delts_order_of_starts(case: dict[str, Any]) -> None:
    count = case["images"]
    ranks = np.arange(count) * 7919 % count  # for every image, the least confident first
    order = np.argsort(ranks)[outward(count, -(-count // 2))[: case["ipc"]]]
    assert order.tolist() == case["chosen"]


@pytest.mark.parametrize("case", SCHEDULES["residual"], ids=lambda case: f"{case['from']}-{case['to']}")
def test_fadrms_change_of_stages(case: dict[str, Any]) -> None:
    sides = (case["from"], case["to"])
    recipe = Recipe(iterations=2, stages=tuple(side / 24 for side in sides), residual=case["residual"])
    start = images(2, 24, phase=6.0)
    batch = PixelBatch(start, torch.zeros(2, dtype=torch.int64), np.zeros(2, np.int64), recipe)
    batch.at(0)
    batch.images[0].data = images(2, case["from"], phase=5.0)
    found = batch.at(1).detach()
    assert found.shape[2] == case["to"]
    assert found.sum().item() == pytest.approx(case["sum"], rel=1e-10)
    assert found.norm().item() == pytest.approx(case["norm"], rel=1e-12)
    assert found[1, 2, 7, :8].tolist() == pytest.approx(case["row"], rel=1e-12)


@pytest.fixture
def context(tmp_path: Path) -> MethodContext:
    """Return the scenes as a training set, with `PlainNet` as the teacher."""
    per, out = RDED["per_class"], tmp_path / "scenes.beton"
    names = tuple(f"class{label}" for label in range(CLASSES))
    samples = (Sample(scene(n), n // per, str(n)) for n in range(CLASSES * per))
    write_samples(out, samples, classes=names, dataset="scenes", split="train", source="test", made={})
    beton, compute = BetonFile(out), Compute(torch.device("cpu"), "fp32", 1)
    teacher = Teacher("plain", "plain", "plain", freeze(PlainNet().float(), compute.device), RDED["side"], 0.0)
    teaching = Teaching((teacher,), compute, out, tmp_path / "scratch")
    return MethodContext(beton.labels, names, RDED["side"], beton.decode, teaching=teaching)


def test_rdeds_losses_of_crops(context: MethodContext) -> None:
    assert context.teaching is not None
    pools = [np.flatnonzero(context.labels == label) for label in range(CLASSES)]
    law = CropLaw(RDED["seed"], RDED["crops"])
    side = RDED["side"] // RDED["factor"]
    found = crop_losses(context, pools, law, side, context.teaching.teachers, 64, "crops")
    expected = np.concatenate([np.array(own["losses"]) for own in RDED["classes"]])
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_rdeds_ranking_and_layout(context: MethodContext) -> None:
    """Compare the crops of every mosaic, tile by tile, and their pixels."""
    method = get_method("rded")
    settings = {"pool": RDED["per_class"], "crops": RDED["crops"], "factor": RDED["factor"]}
    made = method.compress(context, method.configure(settings), RDED["ipc"], RDED["seed"])
    assert made.images is not None
    pixels = np.stack(list(made.images())).astype(float)
    for label, own in enumerate(RDED["classes"]):
        rows = slice(label * RDED["ipc"], (label + 1) * RDED["ipc"])
        expected = [[own["chosen"][rank][0] for rank in ranks] for ranks in own["tiles"]]
        assert made.sources[rows].tolist() == expected
        levels = pixels[rows] / 255 - np.array([0.485, 0.456, 0.406])
        means = (levels / np.array([0.229, 0.224, 0.225])).mean((1, 2, 3))
        np.testing.assert_allclose(means, own["mosaic_mean"], atol=1e-5)


def test_cims_losses_choice_and_mosaics(context: MethodContext) -> None:
    """Compare losses of whole images, the choice and its order, the layout, and every pixel of the mosaics."""
    pools = [np.flatnonzero(context.labels == label) for label in range(CLASSES)]
    assert context.teaching is not None
    teachers = context.teaching.teachers
    losses = image_losses(context, teachers, 64, "whole", resize=CIM["side"], samples=np.concatenate(pools))
    np.testing.assert_allclose(losses, np.concatenate([own["losses"] for own in CIM["classes"]]), rtol=2e-6)
    method = get_method("cim")
    made = method.compress(context, method.configure({}), CIM["ipc"], 0)
    assert made.images is not None
    mosaics = np.stack(list(made.images())).astype(int)
    for label, own in enumerate(CIM["classes"]):
        rows, half = slice(label * CIM["ipc"], (label + 1) * CIM["ipc"]), CIM["side"] // 2
        assert made.sources[rows].T.ravel().tolist() == own["chosen"]
        tiles = mosaics[rows].reshape(CIM["ipc"], 2, half, 2, half, 3).sum(axis=(2, 4, 5))
        assert tiles.reshape(-1, 4).tolist() == own["tile_sums"]
        assert mosaics[rows][1, 21, :, 1].tolist() == own["row"]


def test_cims_defaults_are_its_scripts() -> None:
    method = get_method("cim")
    config: Any = method.configure({})
    assert (config.pool, config.grid) == (CIM["pool"], CIM["factor"])
    assert config.tile_crop.hints == {"tile_grid": CIM["factor"], "tile_whole": CIM["whole"]}
