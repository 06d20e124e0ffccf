"""Provide a tiny real data set, and processes that run real sweeps on it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.beton import Sample, write_samples
from fastdc.sweep.launch.workers import Ended, Event
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.sweep_config import SweepConfig
from tests.processes import start_process
from tests.sweep.instant_sweep import accuracy

CLASSES = ("bark", "moss", "sand")


def make_tiny(out: Path, per_class: int, seed: int, classes: tuple[str, ...] = CLASSES, dataset: str = "tiny") -> Path:
    """Write a beton of 28-px noise around one pattern per class: learnable, and fast to decode."""
    patterns = np.random.default_rng(7).integers(0, 256, (len(classes), 28, 28, 3))
    noise = np.random.default_rng(seed)
    samples = [
        Sample(
            np.clip(patterns[c] * 0.6 + noise.normal(50, 60, (28, 28, 3)), 0, 255).astype(np.uint8), c, f"{name}/{i}"
        )
        for c, name in enumerate(classes)
        for i in range(per_class)
    ]
    write_samples(out, samples, classes=classes, dataset=dataset, split=None, source="made by a test", made={})
    return out


@pytest.fixture
def write_tiny() -> Callable[..., Path]:
    """See `make_tiny`."""
    return make_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write train.beton (3 classes x 40) and val.beton (3 x 20) into a folder."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny(folder / "train.beton", 40, seed=0)
    make_tiny(folder / "val.beton", 20, seed=1)
    return folder


@pytest.fixture
def make_config(tiny: Path, tmp_path: Path) -> Callable[..., SweepConfig]:
    """Return a function that configures a sweep on the tiny set in the test's folder; keywords replace defaults."""

    def make(**changes: Any) -> SweepConfig:
        values: dict[str, Any] = {
            "train": tiny / "train.beton",
            "val": tiny / "val.beton",
            "workdir": tmp_path / "work",
            "methods": "random",
            "ipc": "2",
            "seeds": "0-1",
            "protocols": "hard-small*epochs=2",
            "archs": "convnet1_w4",
            "observer": {"arch": "convnet1_w4"},
            "image_size": 28,
            "threads": 1,
        }
        return SweepConfig(**{**values, **changes})

    return make


@pytest.fixture
def write_yaml() -> Callable[[SweepConfig, Path], Path]:
    """Return a function that writes a config as YAML (here JSON, a subset) for the command line."""

    def write(config: SweepConfig, path: Path) -> Path:
        path.write_text(json.dumps(config.model_dump(mode="json")))
        return path

    return write


def start_python(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a separate Python process with captured output."""
    command = [sys.executable, "-c", code, *arguments]
    return start_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_sweep(config: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start `fastdc sweep` in a separate process."""
    return start_python("from fastdc.cli.main import main; main()", "sweep", str(config), *arguments)


@pytest.fixture
def python_process() -> Callable[..., "subprocess.Popen[str]"]:
    """See `start_python`."""
    return start_python


@pytest.fixture
def sweep_process() -> Callable[..., "subprocess.Popen[str]"]:
    """See `start_sweep`."""
    return start_sweep


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the keys of the cells that get their own processes, here instant ones."""
    keys: list[str] = []

    def isolate(_plan: Plan, _costs: object, cell: Cell) -> Iterator[Event]:
        keys.append(cell.key)
        if len(keys) == 4:
            raise KeyboardInterrupt
        yield Ended(cell.key, accuracy(cell))

    monkeypatch.setattr("fastdc.sweep.launch.in_process.run_in_own_process", isolate)
    return keys
