"""Find the CPU's name, installed packages, the likely device and its capability, without importing torch."""

import ctypes
import os
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import count, takewhile

from fastdc.common.choices import Device

DRIVER_FILES = ("/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1", "/dev/nvhost-ctrl-gpu")
"""Files that exist while NVIDIA's driver is loaded: on Linux, in WSL 2, and on Jetson boards."""
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # attributes of cuDeviceGetAttribute; source: cuda.h


def cpu_name() -> str:
    """Return the model name of this machine's CPU."""
    try:
        with open("/proc/cpuinfo") as handle:
            names = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def guess_device() -> Device:
    """Guess the device that torch will use, without the 2 s that its import takes."""
    build = installed_version("torch")
    if build is None:
        return "cpu"
    # Only CPU wheels carry "+cpu" in their version.
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return "cuda" if any(map(os.path.exists, DRIVER_FILES)) and "+cpu" not in build and not hidden else "cpu"


@cache
def gpu_capability(number: int = 0) -> tuple[int, int] | None:
    """Return the compute capability of a visible GPU, by its number; None if it is not known.

    The value comes from CUDA's driver: torch takes 2 s to import, and a sweep without missing runs needs none.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, found = ctypes.c_int(), [ctypes.c_int(), ctypes.c_int()]
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), number):
        return None
    attributes = zip(found, (CAPABILITY_MAJOR, CAPABILITY_MINOR), strict=True)
    if any(driver.cuDeviceGetAttribute(ctypes.byref(value), name, device) for value, name in attributes):
        return None
    return found[0].value, found[1].value


def weakest_gpu(numbers: Iterable[int] | None) -> tuple[int, int] | None:
    """Return the lowest compute capability of some visible GPUs; None if none is known.

    Args:
        numbers: their numbers; None for all.
    """
    found = takewhile(bool, map(gpu_capability, count())) if numbers is None else map(gpu_capability, numbers)
    return min(filter(None, found), default=None)
