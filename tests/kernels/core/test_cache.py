"""A damaged or unwritable cache of compiled kernels costs a compilation and one warning that names the folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fastdc.cli.doctor import CACHE_PROBE
from tests.kernels.core.test_jit import PROGRAM

Damage = Callable[[bytes], bytes]


class Done(NamedTuple):
    """Result of a run of PROGRAM: flips among 64 draws, kernels loaded from disk, lines on stderr."""

    flips: int
    loaded: int
    warnings: list[str]


def run(cache: Path, prelude: str = "", **environment: str) -> Done:
    given = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "FASTDC_TEST_PRELUDE": prelude, **environment}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=given, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    flips, loaded = map(int, done.stdout.split())
    return Done(flips, loaded, done.stderr.splitlines())


def examine(cache: Path) -> list[str]:
    """Return what `fastdc doctor` finds: folder, files, number of damaged ones, the first of those."""
    given = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", CACHE_PROBE]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout.strip().split("|")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Fill a cache with the kernels of PROGRAM; return it and the flips."""
    folder = tmp_path_factory.mktemp("filled")
    flips, loaded, warnings = run(folder)
    assert (loaded, warnings) == (0, [])
    return folder, flips


@pytest.fixture
def cache(filled: tuple[Path, int], tmp_path: Path) -> Path:
    """Return a copy of the cache to damage."""
    return Path(shutil.copytree(filled[0], tmp_path / "cache"))


def folder_of(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    return folder


def test_a_kernel_is_loaded_without_linear_algebra(cache: Path) -> None:
    prelude = "import atexit, sys; atexit.register(lambda: print('scipy.linalg' in sys.modules, file=sys.stderr))"
    assert run(cache, prelude).warnings == ["False"]


def flip_one_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".nbi", lambda data: b""),
        (".nbi", lambda data: data[: len(data) // 2]),
        (".nbc", lambda data: data[: len(data) // 2]),
        (".nbc", lambda data: bytes(len(data))),
        (".nbc", flip_one_bit),
        (".nb?", lambda data: np.random.default_rng(0).bytes(len(data))),
    ],
    ids=["empty index", "cut index", "cut code", "zeroed code", "one bit of code", "random bytes"],
)
def test_damage_is_compiled_again_with_one_warning(
    suffix: str, damage: Damage, cache: Path, filled: tuple[Path, int]
) -> None:
    folder = folder_of(cache)
    files = list(folder.glob(f"*{suffix}"))
    assert files
    for path in files:
        path.write_bytes(damage(path.read_bytes()))
    assert examine(cache)[2] == str(len(files))
    flips, loaded, warnings = run(cache)
    assert (flips, loaded) == (filled[1], 0)
    (warning,) = warnings
    assert warning.startswith(f"warning: {folder}: ")
    assert warning.endswith("is damaged; these compiled kernels are made again")
    assert run(cache) == (filled[1], 1, [])
    assert examine(cache)[2] == "0"


def test_a_folder_in_place_of_a_file(cache: Path, filled: tuple[Path, int]) -> None:
    folder = folder_of(cache)
    for path in folder.iterdir():
        path.unlink()
        path.mkdir()
    flips, loaded, (warning,) = run(cache)
    assert (flips, loaded) == (filled[1], 0)
    assert warning.startswith(f"warning: {folder}: Is a directory") or f"{folder}: [Errno 21]" in warning


def test_a_file_in_place_of_the_folder(cache: Path, filled: tuple[Path, int]) -> None:
    folder = folder_of(cache)
    shutil.rmtree(folder)
    folder.write_text("a file")
    flips, _, (warning,) = run(cache)
    assert flips == filled[1]
    assert warning.startswith(f"warning: {folder}: compiled kernels cannot be kept (File exists); they are kept in ")


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))"


def test_a_disk_that_is_full_from_the_start(tmp_path: Path, filled: tuple[Path, int]) -> None:
    """A file size limit, which the kernel enforces as it does a full disk, here for every folder."""
    flips, loaded, (warning,) = run(tmp_path, FULL)
    assert (flips, loaded) == (filled[1], 0)
    assert warning.startswith(f"warning: {folder_of(tmp_path)}: compiled kernels cannot be kept (File too large)")
    assert warning.endswith("made again at every start; free space, or set NUMBA_CACHE_DIR to another folder")


def test_a_disk_that_becomes_full(tmp_path: Path, filled: tuple[Path, int]) -> None:
    flips, loaded, (warning,) = run(tmp_path, f"import fastdc.kernels.core.rng; {FULL}")
    assert (flips, loaded) == (filled[1], 0)
    assert warning.startswith(f"warning: {folder_of(tmp_path)}: compiled kernels cannot be kept (File too large)")
    assert run(tmp_path).flips == filled[1]
    assert run(tmp_path).loaded == 1


def test_doctor_reports_a_read_only_folder(tmp_path: Path) -> None:
    given = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", f"{FULL}\n{CACHE_PROBE}"], env=given, capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "|0|0\n", done.stderr
