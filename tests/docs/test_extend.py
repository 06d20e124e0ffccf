"""The examples of docs/extend work as documented."""

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

from fastdc import verify_beton
from fastdc.beton import BetonFile, load_manifest
from tests.conftest import Betons

EXAMPLES = Path(__file__).parents[2] / "docs/extend/examples"


@pytest.fixture(autouse=True)
def examples_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def install(folder: Path, **examples: str) -> dict[str, str]:
    """Install examples, by kind, as a distribution with entry points; return the environment for a process."""
    info = folder / "examples-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    groups = [f"[fastdc.{kind}]\n{target.partition(':')[0]} = {target}" for kind, target in examples.items()]
    (info / "entry_points.txt").write_text("\n".join(groups))
    path = os.pathsep.join([str(folder), str(EXAMPLES), *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path}


def fastdc(environment: dict[str, str], *arguments: object) -> str:
    """Run a command that must succeed; return its stdout."""
    command = [sys.executable, "-m", "fastdc", *map(str, arguments)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_method_of_another_package_is_listed_and_run(betons: Betons, tmp_path: Path) -> None:
    environment = install(tmp_path / "site", methods="sharpness")
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


def test_one_evaluation_uses_a_network_a_protocol_and_a_tracker(betons: Betons, tmp_path: Path) -> None:
    groups = {"architectures": "plain_network", "protocols": "gentle_protocol", "trackers": "csv_tracker:CsvTracker"}
    environment = install(tmp_path / "site", **groups)
    network = ("--arch", "plain", "--protocol", "hard-gentle", "--set", "epochs=2", "--threads", 1)
    files = (betons.train, "--val", betons.val, "--workdir", tmp_path)
    found = json.loads(fastdc(environment, "evaluate", *files, *network, "--track", "csv_tracker", "--json"))
    assert (found["arch"], found["protocol"]) == ("plain", "hard-gentle*epochs=2")
    rows: list[list[Any]] = list(csv.reader((tmp_path / "epochs.csv").open()))
    assert [row[1] for row in rows] == ["settings", "1", "2", "done"]
    assert float(rows[-1][2]) == found["top1"] > 100 / 3, "expected better than chance"


def test_a_source_is_opened_by_its_layout(tmp_path: Path) -> None:
    environment = install(tmp_path / "site", sources="prefix_source")
    (tmp_path / "images").mkdir()
    images = importlib.import_module("prefix_source").SOURCE.example(tmp_path / "images")
    fastdc(environment, "write-beton", images, tmp_path / "out.beton")
    manifest = load_manifest(tmp_path / "out.beton")
    assert (manifest.classes, manifest.counts) == (("bark", "moss", "sand"), (4, 4, 4))
    assert (manifest.ids[0], manifest.made["classes_from"]) == ("bark/bark.0.jpg", "file names")


def test_a_source_writes_a_sound_beton(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 10), np.uint8)
    np.savez(tmp_path / "digits.npz", images=images, labels=[0, 1, 0, 1, 0, 1], classes=["zero", "one"])
    source = importlib.import_module("npz_source")
    manifest = source.write(tmp_path / "digits.npz", tmp_path / "digits.beton")
    assert (manifest.classes, manifest.counts, manifest.ids[5]) == (("zero", "one"), (3, 3), "digits/5")
    assert verify_beton(tmp_path / "digits.beton", deep=True) == []
    assert np.array_equal(BetonFile(tmp_path / "digits.beton").decode(4), np.repeat(images[4, :, :, None], 3, axis=2))
