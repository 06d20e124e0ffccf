"""The one place where thread counts are set: numba's and torch's pools fight when each takes every core.

Here too is what else a training asks of its process.
"""

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

SPIN_COUNT = "1000"
"""Rounds that an OpenMP thread waits actively before it sleeps; libgomp's own default lasts milliseconds.

On a host with other work, spinning threads keep each other from the cores that they wait for. Measured by
`benchmarks/environment.py`.
"""
WAIT_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Variables by which a user chooses how threads wait; any of them switches our choice off."""

MALLOC_VARIABLES = ("FASTDC_MALLOC", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which a user chooses how malloc hands memory back; any of them switches our choice off."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_THRESHOLD = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 2**31 - 1}
"""The most that glibc's mallopt takes, in bytes; source: malloc/malloc.c."""

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def bound_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set how long OpenMP threads spin, unless the user has chosen.

    libgomp reads the variable once, when torch is loaded; a later change has no effect. So this runs when fastdc is
    imported. Results do not depend on it.
    """
    if not any(name in environment for name in WAIT_VARIABLES):
        environment["GOMP_SPINCOUNT"] = SPIN_COUNT


def keep_freed_memory() -> bool:
    """Have glibc's malloc keep freed memory for the next step; return whether it was set.

    By default it gives a tensor's memory back to the kernel, which then clears every page anew at each training step.
    The process stays as large as its largest step. Results do not depend on it.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in MALLOC_VARIABLES):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    taken = [mallopt(name, value) for name, value in LARGEST_THRESHOLD.items()]  # both, whatever the first returns
    return taken == [1, 1]


def usable_cpus() -> int:
    """Return how many CPUs this process is to use: those of `host_cpus`, at most OMP_NUM_THREADS."""
    return min(host_cpus(), openmp_limit(os.environ) or host_cpus())


def host_cpus() -> int:
    """Return how many CPUs this process may run on: affinity, cpusets and the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return count if quota is None else max(1, min(count, int(quota)))


def openmp_limit(environment: Mapping[str, str]) -> int | None:
    """Return the number of threads that OMP_NUM_THREADS names; None where it is unset or no number.

    OpenMP allows one number for each level of nesting ("4,2"); the first one counts.
    """
    first = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def cpu_quota(groups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return the CPUs that the control groups of this process grant, the smallest of all levels; None without a limit.

    A container of 1.5 CPUs on a host of 64 shows all 64 to programs that do not ask. Both versions of control groups
    are read; source: Linux, Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.

    Args:
        groups: where control groups are mounted. membership: the file that names this process's groups.
    """
    return min((quota for folder in _group_folders(groups, membership) if (quota := _quota_of(folder))), default=None)


def _group_folders(groups: Path, membership: Path) -> Iterator[Path]:
    """Every folder that may limit this process: its group and the groups above, in both versions."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux, or /proc is hidden
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / controllers if controllers else groups
        root = root if root.is_dir() else groups / "cpu"
        # Inside a container the path may be the host's, of which only the root is mounted: missing levels are skipped.
        group = Path(path.lstrip("/"))
        yield from (root / level for level in (group, *group.parents))


def _quota_of(folder: Path) -> float | None:
    """CPUs that one control group grants; None where it sets no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max"
        return None


def prepare_numba() -> None:
    """Choose numba's threading layer; call before the first parallel kernel.

    Two live FFCV loaders abort the process under numba's `workqueue` layer; `tbb` is safe for them.
    """
    import numba

    config: Any = numba.config
    config.THREADING_LAYER = "tbb"


def set_compute_threads(threads: int) -> None:
    """Give torch `threads` CPU threads. Results on CPU are bit-equal only for an equal count.

    Raises:
        ValueError: `threads` is below 1.
    """
    import torch

    if threads < 1:
        raise ValueError(f"threads={threads}: expected at least 1")
    torch.set_num_threads(threads)
