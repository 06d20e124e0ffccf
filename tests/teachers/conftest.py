"""Provide the tests of teachers with a fully trained observer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import Manifest, describe_beton
from fastdc.nn.device import Compute, choose_compute
from fastdc.observe import ObserverConfig
from fastdc.observe.train_observer import observe
from fastdc.teachers.load import load_teacher
from fastdc.teachers.names import plan_teacher
from fastdc.teachers.network import Teacher
from fastdc.teachers.plan import TeacherPlan

OBSERVER = ObserverConfig(arch="convnet_w8", epochs=3, batch_size=32, lr=0.05, image_size=28, threads=1)


@pytest.fixture(scope="session")
def observer() -> ObserverConfig:
    """Return the observer's resolved settings."""
    return OBSERVER.resolved()


@pytest.fixture(scope="session")
def observed(betons: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the observer in a workdir."""
    workdir = tmp_path_factory.mktemp("observed")
    observe(betons.train, workdir, OBSERVER)
    return workdir


@pytest.fixture(scope="session")
def manifest(betons: Any) -> Manifest:
    """Return the training set's manifest."""
    return describe_beton(betons.train)


@pytest.fixture
def compute() -> Compute:
    """Return one thread in fp32."""
    return choose_compute("fp32", 1)


@pytest.fixture
def plan(betons: Any, observed: Path, manifest: Manifest, observer: ObserverConfig) -> Callable[[str], TeacherPlan]:
    """Return a function that plans a teacher by name in that workdir."""
    return lambda spec: plan_teacher(spec, manifest, observer)


@pytest.fixture
def load(plan: Callable[[str], TeacherPlan], betons: Any, observed: Path, compute: Compute) -> Callable[[str], Teacher]:
    """Return a function that loads a teacher by name in that workdir."""
    return lambda spec: load_teacher(plan(spec), betons.train, observed, compute)
