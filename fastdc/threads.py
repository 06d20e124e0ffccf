"""The one place where thread counts are set: numba's and torch's pools fight when each takes every core."""

import os
from typing import Any


def usable_cpus() -> int:
    """CPUs that this process may run on (cpusets and affinity respected)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
