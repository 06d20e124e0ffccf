"""The examples of docs/extend do what their pages say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from fastdc.beton import BetonFile, load_manifest
from tests.conftest import Betons

EXAMPLES = Path(__file__).parents[2] / "docs/extend/examples"


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
