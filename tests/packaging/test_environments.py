"""`Dockerfile` and `environment.yml` agree with pyproject.toml, each other and the install scripts."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from packaging.specifiers import SpecifierSet

from fastdc.cli.doctor import INSTALL_FFCV

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SUPPORTED = SpecifierSet(PROJECT["requires-python"])
EXTRAS = set(PROJECT["optional-dependencies"])
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ENVIRONMENT: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text())
(PIP,) = (item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict))
CONDA = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]


def instructions(kind: str) -> list[str]:
    """Return the arguments of the Dockerfile's instructions of a kind, each as one line."""
    lines = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{kind} ")]


def apt_packages(command: str) -> set[str]:
    """Return the packages that a line of shell installs with `apt-get install`."""
    found = re.findall(r"apt-get install ([^&;]*)", command)
    return {word for text in found for word in shlex.split(text) if not word.startswith("-")}


def test_the_default_python_is_that_of_the_tests() -> None:
    (image,) = (base for base in instructions("FROM") if base.startswith("python:"))
    (conda,) = (item.partition("=")[2] for item in CONDA if item.startswith("python="))
    docker = re.match(r"python:(\d+\.\d+)-", image)
    assert docker is not None
    assert docker[1] == conda
    assert conda in SUPPORTED
    assert SpecifierSet(f">={conda}") == SUPPORTED, "the oldest one: CI runs it"


@pytest.mark.skipif(torch.version.cuda is None, reason="needs the build of torch that PyPI has")
def test_the_cuda_base_is_that_of_torch() -> None:
    (image,) = (base for base in instructions("FROM") if base.startswith("nvidia/cuda:"))
    assert image.startswith(f"nvidia/cuda:{torch.version.cuda}.")


def test_each_device_is_a_stage() -> None:
    assert {base.partition(" AS ")[2] for base in instructions("FROM")} == {"cpu", "cuda", ""}
    assert instructions("ARG")[0] == "DEVICE=cpu"


def test_exactly_the_copied_files_are_in_the_context() -> None:
    copied = {word for line in instructions("COPY") for word in line.split()[:-1]}
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_build_has_every_file_that_pyproject_reads() -> None:
    copied = {word for line in instructions("COPY") for word in line.split()[:-1]}
    assert {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]} <= copied


def test_extras_are_those_of_pyproject() -> None:
    (default,) = (line.partition("=")[2] for line in instructions("ARG") if line.startswith("EXTRAS="))
    conda = [extra for line in PIP for extra in re.findall(r"^\.\[(.+)\]$", line)]
    assert set(default.split(",")) <= EXTRAS
    assert set(",".join(conda).split(",")) <= EXTRAS


def test_versions_come_only_from_the_constraints() -> None:
    assert PIP[:3] == ["--constraint constraints.txt", "torch", "torchvision"]
    assert not any(sign in line for line in PIP for sign in "=<>")
    installs = [line for line in instructions("RUN") if "pip install" in line]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in line and "==" not in line for line in installs)
    assert "torch torchvision" in installs[0]


def test_ffcv_compiles_against_the_advised_packages() -> None:
    (line,) = (line for line in instructions("RUN") if "ffcv" in line)
    debian, conda = re.findall(r"(?:apt-get install|conda-forge) ([\w. -]+?)(?:,|;)", INSTALL_FFCV)
    assert apt_packages(line) == {"g++", *debian.split()}
    assert set(conda.split()) <= set(CONDA)
    script = (ROOT / "scripts" / "install_system.sh").read_text()
    assert all(name in script for name in apt_packages(line))


@pytest.mark.parametrize("line", instructions("RUN"))
def test_each_step_is_valid_shell(line: str) -> None:
    subprocess.run(["sh", "-n", "-c", line], check=True, timeout=10)


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("needs hadolint, which the extra dev brings on x86-64")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
