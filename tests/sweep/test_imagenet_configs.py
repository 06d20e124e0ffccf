"""The paper's whole grid: `configs/imagenet_*.yaml` planned on a beton of ImageNet's classes, without ImageNet."""

from pathlib import Path

import numpy as np
import pytest

from fastdc.beton import Sample, encode_jpeg, write_samples
from fastdc.nn.weights_facts import imagenet_wnids
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.estimate import make_bill, rough_rates
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.plan import Plan
from fastdc.sweep.sweep_config import SweepConfig, load_config

CONFIGS = Path(__file__).parents[2] / "configs"
PER_CLASS = 400  # PCA takes four images for each stored one; ImageNet's smallest class has 732
METHODS = ("random", "forgetting", "el2n", "aum", "ccs", "sre2l", "cda", "gvbsm", "lpld", "rded", "dwa", "pca")
RECOVERED = ("sre2l", "cda", "gvbsm", "lpld", "rded", "dwa")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write betons of the 1000 classes with images of one pixel."""
    folder = tmp_path_factory.mktemp("imagenet")
    classes, pixel = tuple(imagenet_wnids()), encode_jpeg(np.zeros((1, 1, 3), np.uint8), 75)
    for split, count in (("train", PER_CLASS), ("val", 1)):
        samples = (Sample(pixel, label, f"{name}/{i}") for label, name in enumerate(classes) for i in range(count))
        out, made = folder / f"{split}.beton", {"made": {}, "source": "made by a test"}
        write_samples(out, samples, classes=classes, dataset="imagenet", split=split, **made)  # type: ignore[arg-type]
    return folder


def config_of(kind: str, imagenet: Path, workdir: Path) -> SweepConfig:
    paths = {"train": imagenet / "train.beton", "val": imagenet / "val.beton", "workdir": workdir}
    return load_config(CONFIGS / f"imagenet_{kind}.yaml", paths)


@pytest.fixture(params=["hard", "soft"])
def plan(request: pytest.FixtureRequest, imagenet: Path, tmp_path: Path) -> Plan:
    """Plan one of the two benchmarks, for a GPU."""
    return make_plan(config_of(request.param, imagenet, tmp_path), "cuda")


def test_the_grid_equals_the_papers(plan: Plan) -> None:
    (protocol,) = {cell.protocol.name for cell in plan.cells}
    names = {cell.label["method"].partition("[")[0] for cell in plan.cells}
    assert (len(plan.cells), plan.runnable, names) == (12 * 3 * 3, plan.cells, set(METHODS))
    assert {cell.label["ipc"] for cell in plan.cells} == {10, 50, 100}
    assert {(cell.arch, cell.label["precision"], cell.label["batch"]) for cell in plan.cells} == {
        ("resnet18", "fp32", 128)
    }
    assert {cell.label["ipc"]: cell.label["steps"] for cell in plan.cells} == {10: 23_700, 50: 117_300, 100: 234_600}
    assert {cell.seed for cell in plan.cells} == {0, 1, 2}
    teachers = {cell.teacher.name if cell.teacher else None for cell in plan.cells}
    assert teachers == ({None} if protocol == "hard" else {"torchvision:resnet18@IMAGENET1K_V1"})


def test_no_recovery_is_smaller_than_its_papers(plan: Plan) -> None:
    recovered = [cell for cell in plan.cells if cell.label["method"].partition("[")[0] in RECOVERED]
    assert {cell.label["method"]: cell.label["reduced"] for cell in recovered if cell.label["reduced"]} == {}
    assert all(teacher.spec.startswith("torchvision:") for cell in recovered for teacher in cell.teachers)


def test_both_benchmarks_share_their_subsets_and_observer(imagenet: Path, tmp_path: Path) -> None:
    hard, soft = (make_plan(config_of(kind, imagenet, tmp_path), "cuda") for kind in ("hard", "soft"))
    assert hard.config.workdir == soft.config.workdir
    assert hard.observer == soft.observer
    assert {cell.subset.key for cell in hard.cells if cell.subset} == {c.subset.key for c in soft.cells if c.subset}


def test_a_dry_run_shows_runs_hours_and_disk_and_writes_nothing(imagenet: Path, tmp_path: Path) -> None:
    for kind in ("hard", "soft"):
        lines = preview(config_of(kind, imagenet, tmp_path / "work"))
        assert "108 runs: 0 cached, 108 to run, 0 skipped" in lines
        (gpu,) = [line for line in lines if line.startswith("on one GPU")]
        assert 1_000 < float(gpu.split("about ")[1].split()[0].replace(",", "")) < 10_000
        (disk,) = [line for line in lines if line.startswith("disk: about ")]
        # 12 methods, 480,000 images each (160,000 of those that no seed changes) of some 16 kB; raw pixels of 100,000
        assert 40 < float(disk.split("new subsets ")[1].split()[0]) < 120
        assert 15 < float(disk.split("while a set is recovered ")[1].split()[0]) < 31
        parts = lines[lines.index(gpu) + 1]
        assert all(f"{name} sets " in parts for name in RECOVERED)
        assert f"{kind} trainings " in parts
    assert list(tmp_path.iterdir()) == []


PUBLISHED = {"sre2l": 2.52, "gvbsm": 17.28, "cda": 29 * 3600 / 50_000}
"""Seconds per image of 224 px on an RTX 4090: FADRM's table, and CDA's 29 GPU-hours at IPC 50."""


def test_the_cost_of_recovered_sets_is_near_published_times(plan: Plan) -> None:
    bill = make_bill(plan, plan.runnable, rough_rates(plan, "cuda"))
    images = 1000 * (10 + 50 + 100) * 3
    for name, seconds in PUBLISHED.items():
        assert 0.5 < bill.sets[name] / images / seconds < 2, name
    (training,) = bill.trainings.values()
    # 108 trainings of 300 epochs on 10,000, 50,000 and 100,000 images: 1.7e9 views, by a GPU's 400 to 4,000 a second
    assert 120 < training / 3600 < 1200
