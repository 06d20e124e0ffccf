"""The wheel: it is complete, and works with only its declared dependencies."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.conftest import ROOT, build_wheel

ABSENT = ("ffcv", "pytest", "hypothesis", "pyarrow", "ray", "scipy", "tensorboard", "import-linter")
"""Distributions that are installed with the tests, and are no dependency."""


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel by name, without the list of their hashes."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def test_the_wheel_contains_exactly_the_package(wheel: Path) -> None:
    files = contents(wheel)
    there = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for path in (ROOT / "fastdc").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name: data for name, data in files.items() if name.startswith("fastdc/")} == there
    info = {name.partition("/")[0] for name in files if name not in there}
    assert len(info) == 1
    assert info.pop().endswith(".dist-info")


def test_the_source_archive_makes_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert contents(build_wheel(source, tmp_path / "out")) == contents(wheel)
    for name in ("constraints.txt", "CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "configs/demo.yaml"):
        assert (source / name).read_bytes() == (ROOT / name).read_bytes()


def closure(requirements: list[str]) -> dict[str, Distribution]:
    """Return the installed distributions that requirements bring, recursively, by name."""
    found: dict[str, Distribution] = {}
    open_ = [Requirement(text) for text in requirements]
    while open_:
        wanted = open_.pop()
        extras = ["", *wanted.extras]
        if wanted.name in found or (wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in extras)):
            continue
        try:
            found[wanted.name] = distribution(wanted.name)
        except PackageNotFoundError:  # another platform's, such as one for Windows alone
            continue
        open_ += [Requirement(text) for text in found[wanted.name].requires or [] if "extra ==" not in text]
    return found


@pytest.fixture(scope="module")
def bin_(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with the wheel and, by links, only its dependencies; return its programs."""
    place = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], check=True, timeout=110)
    (site,) = place.glob("lib/python*/site-packages")
    (metadata,) = site.glob("fastdc-*.dist-info/METADATA")
    lines = [line.partition(": ") for line in metadata.read_text().splitlines()]
    core = [text for key, _, text in lines if key == "Requires-Dist" and "extra ==" not in text]
    for found in closure(core).values():
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link = site / top
            if not link.exists():
                link.symlink_to(found.locate_file(top))
    return place / "bin"


def run(bin_: Path, folder: Path, *arguments: str) -> str:
    """Return the output of a program of the environment, which must succeed without this checkout."""
    alone = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    program = str(bin_ / arguments[0])
    done = subprocess.run(
        [program, *arguments[1:]], cwd=folder, env=alone, capture_output=True, text=True, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_lacks_undeclared_packages(bin_: Path, tmp_path: Path) -> None:
    code = "import importlib.metadata as m; print(*(d.name.lower() for d in m.distributions()))"
    names = run(bin_, tmp_path, "python", "-c", code).split()
    assert {"fastdc", "torch", "numba"} <= set(names)
    assert set(ABSENT) & set(names) == set()
    place = run(bin_, tmp_path, "python", "-c", "import fastdc; print(fastdc.__file__)")
    assert place.startswith(str(bin_.parent))


def test_commands_work_without_development_packages(bin_: Path, tmp_path: Path) -> None:
    assert "write-beton" in run(bin_, tmp_path, "fastdc", "--help")
    assert run(bin_, tmp_path, "fastdc", "list", "methods").count("\n") > 30
    assert json.loads(run(bin_, tmp_path, "fastdc", "methods", "--json"))
    for kind in ("architectures", "protocols", "sources", "trackers"):
        assert "broken" not in run(bin_, tmp_path, "fastdc", "list", kind)
    demo = run(
        bin_, tmp_path, "python", "-c", "from fastdc.demo.run_demo import config_file as c; print(c('imagenette'))"
    )
    assert Path(demo.strip()).is_file()


@pytest.mark.long
@pytest.mark.timeout(1200)  # seconds on an idle machine: every kernel is compiled anew
def test_images_become_a_page_without_ffcv(bin_: Path, tmp_path: Path) -> None:
    checks = run(bin_, tmp_path, "fastdc", "doctor")
    assert "missing " not in checks
    assert "not installed" in next(line for line in checks.splitlines() if " ffcv " in line)
    run(bin_, tmp_path, "python", str(ROOT / "examples" / "patterns.py"), "photos")
    for split in ("train", "val"):
        run(bin_, tmp_path, "fastdc", "write-beton", "photos", f"{split}.beton", "--split", split)
    shared = ["--image-size", "32", "--workdir", "work"]
    run(bin_, tmp_path, "fastdc", "compress", "random", "train.beton", "--ipc", "1", "--out", "one.beton", *shared)
    fast = ["--arch", "convnet1_w4", "--threads", "1"]
    protocol = "hard-small*epochs=2"
    evaluate = ["fastdc", "evaluate", "one.beton", "--val", "val.beton", "--protocol", protocol, "--json", *fast]
    assert json.loads(run(bin_, tmp_path, *evaluate))["epochs"] == 2
    sweep = ["fastdc", "sweep", "--train", "train.beton", "--val", "val.beton", "--methods", "random,el2n,pact"]
    observer = ["--observer", "arch=convnet1_w4", "--observer", "epochs=10"]
    run(bin_, tmp_path, *sweep, "--ipc", "1", "--protocol", protocol, *fast, *observer, *shared)
    assert "el2n" in run(bin_, tmp_path, "fastdc", "report", "work", "--html", "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000
