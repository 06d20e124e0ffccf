"""Set thread counts, and other process-wide settings of a training (spinning, malloc).

No other module may set thread counts: numba's and torch's pools compete when each takes every core.
"""

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

SPIN_COUNT = "1000"
"""Iterations that an OpenMP thread spins before it sleeps; libgomp's own default lasts milliseconds.

On a busy host, spinning threads occupy the very cores that other threads wait for. Measured by
`benchmarks/environment.py`.
"""
WAIT_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Environment variables by which a user sets how threads wait; any of them disables our choice."""

MALLOC_VARIABLES = ("FASTDC_MALLOC", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Environment variables by which a user sets how malloc returns memory; any of them disables our choice."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameter numbers of mallopt, from glibc's malloc.h
LARGEST_THRESHOLD = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 2**31 - 1}
"""Largest values that glibc's mallopt accepts, in bytes; source: malloc/malloc.c."""

_cpu_share = 1.0  # part of the host's CPUs that this process takes, see `share_cpus`

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def bound_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Limit how long OpenMP threads spin, unless the user has set it.

    libgomp reads the variable once, when torch loads, and ignores later changes. This therefore runs when fastdc is
    imported. Results do not depend on it.
    """
    if not any(name in environment for name in WAIT_VARIABLES):
        environment["GOMP_SPINCOUNT"] = SPIN_COUNT


def keep_freed_memory() -> bool:
    """Make glibc's malloc keep freed memory for the next step; return whether that worked.

    By default it returns a tensor's memory to the kernel, which then zeroes every page again at each training step.
    With this setting the process stays as large as its largest step. Results do not depend on it.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in MALLOC_VARIABLES):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    taken = [mallopt(name, value) for name, value in LARGEST_THRESHOLD.items()]  # set both even if the first fails
    return taken == [1, 1]


def usable_cpus() -> int:
    """Return how many CPUs this process should use: `host_cpus`, but at most OMP_NUM_THREADS."""
    return min(host_cpus(), openmp_limit(os.environ) or host_cpus())


def host_cpus() -> int:
    """Return how many CPUs this process may run on: affinity, cpusets and the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return count if quota is None else max(1, min(count, int(quota)))


def share_cpus(share: float) -> None:
    """Divide the host's CPUs between processes: from now on this one loads data with its `share` of them."""
    global _cpu_share
    _cpu_share = share


def loader_cpus() -> int:
    """Return how many CPUs load data in this process: `usable_cpus`, but at most its share of the host's."""
    return min(usable_cpus(), max(1, int(host_cpus() * _cpu_share + 1e-6)))  # 1e-6: 1 / n times n may be below 1


def openmp_limit(environment: Mapping[str, str]) -> int | None:
    """Return the number of threads that OMP_NUM_THREADS sets; None if it is unset or not a positive number.

    OpenMP allows one number for each level of nesting ("4,2"); the first one counts.
    """
    first = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def cpu_quota() -> float | None:
    """Return the CPUs that this process's control groups grant, the minimum over all levels; None without a limit.

    A container with 1.5 CPUs on a host of 64 shows all 64 to programs that do not read this limit. Both versions of
    control groups are read; source: Linux, Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.
    """
    return min((quota for folder in _group_folders() if (quota := _quota_of(folder))), default=None)


def _group_folders() -> Iterator[Path]:
    """Yield every folder that may limit this process: its group and all parent groups, in both versions."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:  # not Linux, or /proc is hidden
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 1 mounts a folder per controller or set of controllers ("cpu,cpuacct"); version 2 names none.
        root = CGROUPS / controllers if controllers else CGROUPS
        root = root if root.is_dir() else CGROUPS / "cpu"
        # In a container the path may be the host's, of which only the root is mounted; missing levels have no quota.
        group = Path(path.lstrip("/"))
        yield from (root / level for level in (group, *group.parents))


def _quota_of(folder: Path) -> float | None:
    """Return the CPUs that one control group grants; None if it sets no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max"
        return None


def prepare_numba() -> None:
    """Select numba's threading layer; call before the first parallel kernel.

    Two live FFCV loaders abort the process under numba's `workqueue` layer. `tbb` is safe with several loaders.
    """
    import numba

    config: Any = numba.config
    config.THREADING_LAYER = "tbb"


def set_compute_threads(threads: int) -> None:
    """Set torch's number of CPU threads. Results on CPU are bit-equal only for equal counts.

    Raises:
        ValueError: `threads` is below 1.
    """
    import torch

    if threads < 1:
        raise ValueError(f"threads={threads}: expected at least 1")
    torch.set_num_threads(threads)
