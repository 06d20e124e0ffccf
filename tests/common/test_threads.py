"""Usable CPUs in a container, and the limit on spinning OpenMP threads."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fastdc.common import threads
from fastdc.common.threads import (
    MALLOC_VARIABLES,
    WAIT_VARIABLES,
    bound_spinning,
    cpu_quota,
    host_cpus,
    keep_freed_memory,
    openmp_limit,
    usable_cpus,
)


def make_groups(monkeypatch: pytest.MonkeyPatch, folder: Path, membership: str, files: dict[str, str]) -> None:
    """Make a tree of control groups with the file that names this process's, and point fastdc to them."""
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "membership").write_text(membership)
    monkeypatch.setattr(threads, "CGROUPS", folder / "cgroup")
    monkeypatch.setattr(threads, "MEMBERSHIP", folder / "membership")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2.0),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/docker/not-mounted-here\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (
            "4:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "250000", "cpu,cpuacct/x/cpu.cfs_period_us": "1e5"},
            None,
        ),
        ("4:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "250000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 2.5),
        ("5:memory:/\n", {"memory/cpu.max": "100000 100000\n"}, None),
        ("", {}, None),
    ],
)
def test_quota_is_that_of_the_tightest_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, membership: str, files: dict[str, str], expected: float | None
) -> None:
    make_groups(monkeypatch, tmp_path, membership, files)
    assert cpu_quota() == expected


def test_no_control_groups_mean_no_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(threads, "MEMBERSHIP", tmp_path / "none")
    assert cpu_quota() is None


@pytest.mark.parametrize(
    ("value", "expected"), [("1", 1), (" 3 ", 3), ("4,2", 4), ("0", None), ("-2", None), ("", None), ("auto", None)]
)
def test_openmp_limit_reads_the_outermost_level(value: str, expected: int | None) -> None:
    assert openmp_limit({"OMP_NUM_THREADS": value}) == expected


def test_usable_cpus_stay_within_every_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert usable_cpus() == host_cpus() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert usable_cpus() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")
    assert usable_cpus() == host_cpus()


def test_quota_below_one_cpu_is_one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdc.common.threads.cpu_quota", lambda: 0.5)
    assert host_cpus() == 1


@pytest.mark.parametrize("name", WAIT_VARIABLES)
def test_the_users_wait_policy_is_kept(name: str) -> None:
    chosen = {name: "passive"}
    bound_spinning(chosen)
    assert chosen == {name: "passive"}


def test_spinning_is_limited_before_torch_loads() -> None:
    code = "import sys, fastdc, os; assert 'torch' not in sys.modules; print(os.environ['GOMP_SPINCOUNT'])"
    environment = {name: value for name, value in os.environ.items() if name not in WAIT_VARIABLES}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("1000\n", 0), done.stderr


def test_libgomp_takes_the_limit(tmp_path: Path) -> None:
    """libgomp reports the value; set after it is loaded, it would report its default."""
    code = "import fastdc, torch; torch.ones(2).sum()"
    environment = {name: value for name, value in os.environ.items() if name not in WAIT_VARIABLES}
    environment["OMP_DISPLAY_ENV"] = "verbose"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=110)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch uses another OpenMP library than libgomp here")
    assert "GOMP_SPINCOUNT = '1000'" in done.stderr


FREED = """
import resource, sys
import torch
from fastdc.common.threads import keep_freed_memory
assert keep_freed_memory() is (sys.argv[1] == "kept")
def step():
    return sum(float(torch.ones(1 << 20).sum()) for _ in range(8))  # 4 MB, allocated and freed eight times
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again() -> None:
    """Without the setting, the kernel counts page faults for every tensor."""
    faults = {}
    for name, variables in (("kept", {}), ("default", {"MALLOC_MMAP_THRESHOLD_": "131072"})):
        environment = {key: value for key, value in os.environ.items() if key not in MALLOC_VARIABLES} | variables
        command = [sys.executable, "-c", FREED, name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stderr
        faults[name] = int(done.stdout)
    assert faults["kept"] < faults["default"] / 20, faults


def test_the_users_malloc_settings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDC_MALLOC", "default")
    assert keep_freed_memory() is False
