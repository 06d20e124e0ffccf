"""Compiled kernels are kept on disk, found again, and never used after a change of their source."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastdc

PROGRAM = """
import os
exec(os.environ.get("FASTDC_TEST_PRELUDE", ""))
import numpy as np
from fastdc.kernels.views.boxes import random_flip  # calls draw_unit of rng.py
print(sum(random_flip(np.uint64(key)) for key in range(64)), sum(random_flip.stats.cache_hits.values()))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Copy the package, so that a test may change its sources."""
    source = Path(fastdc.__file__).parent
    shutil.copytree(source, tmp_path / "fastdc", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(package: Path, *prefix: str, **environment: str) -> list[int]:
    """Run PROGRAM on the copy; return [flips among 64 draws, kernels loaded from disk]."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", PROGRAM],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package), **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return [int(word) for word in done.stdout.split()]


def test_a_change_in_a_called_file_reaches_the_cached_caller(package: Path) -> None:
    flips, loaded = run(package)
    assert 0 < flips < 64
    assert loaded == 0
    assert run(package) == [flips, 1]
    rng = package / "fastdc" / "kernels" / "core" / "rng.py"
    changed = rng.read_text().replace(" * _TO_UNIT", " * 0.0")
    assert changed != rng.read_text()
    rng.write_text(changed)
    assert run(package) == [64, 0]


def without_write_access(package: Path, **environment: str) -> list[int]:
    """Run PROGRAM without write access to the package: as root without its right to bypass permissions."""
    for folder, _, _ in os.walk(package / "fastdc"):
        os.chmod(folder, 0o555)
    drop = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.getuid() == 0 else []
    return run(package, *drop, **environment)


@pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", pytest.param("HOME", marks=pytest.mark.slow)])
def test_unwritable_folders_are_skipped_and_nothing_becomes_stale(package: Path, tmp_path: Path, variable: str) -> None:
    settings = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), variable: "/proc/none", "XDG_CACHE_HOME": ""}
    flips, _ = without_write_access(package, **settings)
    assert without_write_access(package, **settings) == [flips, 1]
    rng = package / "fastdc" / "kernels" / "core" / "rng.py"
    rng.write_text(rng.read_text().replace(" * _TO_UNIT", " * 0.0"))
    assert without_write_access(package, **settings) == [64, 0]


def test_without_any_writable_folder_kernels_still_work(package: Path) -> None:
    settings = {"HOME": "/proc/none", "TMPDIR": "/proc/none", "XDG_CACHE_HOME": ""}
    code = "import tempfile; tempfile.tempdir = '/proc/none'\n"
    flips, loaded = without_write_access(package, **settings, FASTDC_TEST_PRELUDE=code)
    assert 0 < flips < 64
    assert loaded == 0


def test_numba_cache_dir_is_respected(package: Path, tmp_path: Path) -> None:
    run(package, NUMBA_CACHE_DIR=str(tmp_path / "elsewhere"))
    assert list((tmp_path / "elsewhere").glob("kernels-*/*.nbi"))
    assert not list((package / "fastdc" / "__pycache__").glob("kernels-*"))
