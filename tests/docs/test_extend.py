"""The examples of docs/extend do what their pages say."""

import csv
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc import EvaluateSettings, evaluate, get_protocol, verify_beton
from fastdc.beton import BetonFile, load_manifest
from fastdc.nn import arch_names, models
from fastdc.track import emit, tracking
from fastdc.track.events import one_run
from fastdc.track.trackers import TRACKERS, Kind
from fastdc.train.protocols import PRESETS
from fastdc.train.recipes import RECIPES
from tests.conftest import Betons

EXAMPLES = Path(__file__).parents[2] / "docs/extend/examples"


@pytest.fixture(autouse=True)
def examples_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def install(folder: Path, group: str, *names: str) -> dict[str, str]:
    """Install examples as a distribution with entry points; return the environment of a process that sees it."""
    info = folder / "examples-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *(f"{name} = {name}" for name in names)]))
    path = os.pathsep.join([str(folder), str(EXAMPLES), *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path}


def fastdc(environment: dict[str, str], *arguments: object) -> str:
    """Run a command that must succeed; return its stdout."""
    command = [sys.executable, "-m", "fastdc", *map(str, arguments)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_method_of_another_package_is_listed_and_run(betons: Betons, tmp_path: Path) -> None:
    environment = install(tmp_path / "site", "fastdc.methods", "sharpness")
    (listed,) = [m for m in json.loads(fastdc(environment, "methods", "--json")) if m["name"] == "sharpness"]
    assert listed["settings"] == {"fit": "crop", "augment": None, "step": 1}
    out = tmp_path / "sharp.beton"
    request = ("--ipc", 2, "--image-size", 28, "--set", "step=2", "--out", out, "--workdir", tmp_path)
    fastdc(environment, "compress", "sharpness", betons.train, *request)
    source, whole = BetonFile(betons.train), load_manifest(betons.train)
    images = np.stack([source.decode(index) for index in range(len(source.labels))]).astype(float).mean(axis=3)
    sharp = np.abs(images[:, :, 2:] - images[:, :, :-2]).mean(axis=(1, 2))
    best = [index for label in range(3) for index in np.argsort(-sharp * (source.labels == label), kind="stable")[:2]]
    lines = (tmp_path / "sharp.list.tsv").read_text().splitlines()
    kept = [line.split("\t")[0] for line in lines if not line.startswith("#")]
    assert kept[-6:] == [whole.ids[index] for index in best]


def test_a_network_trains_after_its_two_lines(betons: Betons, monkeypatch: pytest.MonkeyPatch) -> None:
    build, known = importlib.import_module("plain_network").plain_network, models._new_model
    monkeypatch.setattr(arch_names, "SMALL_ARCHS", (*arch_names.SMALL_ARCHS, "plain"))
    monkeypatch.setattr(
        models,
        "_new_model",
        lambda arch, classes, side: build(classes) if arch == "plain" else known(arch, classes, side),
    )
    settings = EvaluateSettings(protocol=get_protocol("hard-small*epochs=3"), arch="plain", threads=1)
    first, again = (evaluate(betons.train, betons.val, settings) for _ in range(2))
    assert first.top1 == again.top1 > 100 / 3, "expected better than chance, and the same digits"


def test_a_protocol_is_known_by_its_name(betons: Betons, monkeypatch: pytest.MonkeyPatch) -> None:
    example = importlib.import_module("gentle_protocol")
    monkeypatch.setitem(PRESETS, "hard-gentle", example.PRESET)
    monkeypatch.setitem(RECIPES, "hard-gentle", example.RECIPE)
    protocol = get_protocol("hard-gentle*epochs=1")
    assert (protocol.name, protocol.label_smoothing, protocol.schedule) == ("hard-gentle*epochs=1", 0.1, "cosine")
    settings = EvaluateSettings(protocol=protocol, arch="convnet1_w4", threads=1)
    assert evaluate(betons.train, betons.val, settings).epochs == 1


def test_a_source_writes_a_sound_beton(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 10), np.uint8)
    np.savez(tmp_path / "digits.npz", images=images, labels=[0, 1, 0, 1, 0, 1], classes=["zero", "one"])
    source = importlib.import_module("npz_source")
    manifest = source.write(tmp_path / "digits.npz", tmp_path / "digits.beton")
    assert (manifest.classes, manifest.counts, manifest.ids[5]) == (("zero", "one"), (3, 3), "digits/5")
    assert verify_beton(tmp_path / "digits.beton", deep=True) == []
    assert np.array_equal(BetonFile(tmp_path / "digits.beton").decode(4), np.repeat(images[4, :, :, None], 3, axis=2))


def test_a_tracker_follows_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "csv", Kind("csv", "csv_tracker:CsvTracker", "CSV"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES), *filter(None, sys.path)]))
    with tracking(["csv"], tmp_path), one_run("pca seed 0", "k", {"ipc": 10}) as result:
        emit("epoch", cell="pca seed 0", epoch=1, epochs=2, loss=1.5, lr=0.1, top1=None, images_per_second=9.0)
        emit("epoch", cell="pca seed 0", epoch=2, epochs=2, loss=0.5, lr=0.1, top1=40.0, images_per_second=9.0)
        result["top1"] = 40.0
    rows: list[list[Any]] = list(csv.reader((tmp_path / "epochs.csv").open()))
    assert rows == [
        ["pca seed 0", "settings", "ipc=10"],
        ["pca seed 0", "1", "1.5", ""],
        ["pca seed 0", "2", "0.5", "40.0"],
        ["pca seed 0", "done", "40.0"],
    ]
