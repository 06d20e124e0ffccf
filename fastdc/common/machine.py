"""Find the CPU's name, installed packages and the likely device, without importing torch."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from fastdc.common.choices import Device

DRIVER_FILES = ("/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1", "/dev/nvhost-ctrl-gpu")
"""Files that exist while NVIDIA's driver is loaded: on Linux, in WSL 2, and on Jetson boards."""


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
