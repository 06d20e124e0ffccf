"""The device of a section, and the time of work on it."""

import time
from collections.abc import Callable

import torch

from gpu_sections.setup import Setup


def device_of(setup: Setup) -> torch.device:
    """Return the first GPU, or the CPU."""
    return torch.device("cuda", 0) if setup.on_cuda else torch.device("cpu")


def wait(device: torch.device) -> None:
    """Wait until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """Return the seconds of the fastest of some calls, after one that is not timed; the device is waited for."""
    work()
    taken = []
    for _ in range(times):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - start)
    return min(taken)
