"""Describe what a figure depends on: machine, versions, date."""

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    *("fastdc", "torch", "torchvision", "numpy", "numba", "ffcv", "opencv-python", "simplejpeg", "pillow", "tbb"),
    *("webdataset", "nvidia-dali-cuda130", "nvidia-dali-cuda120"),
)


def describe_machine() -> dict[str, Any]:
    """Return CPU, cores, memory, kernel, GPU, versions, date and load of the machine."""
    cpu = cpu_info()
    return {
        "cpu": cpu.get("model name", platform.processor()),
        "cpu_family_model": f"{cpu.get('cpu family', '?')}/{cpu.get('model', '?')}",
        "mhz": cpu.get("cpu MHz", "?"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "system": platform.platform(),
        "gpu": gpu_name(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def short_name(machine: dict[str, Any]) -> str:
    """Return the machine in a few words."""
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    cpu = f"{machine['cpu']} (family/model {machine['cpu_family_model']})"
    return f"{cpu}, {machine['cores']} cores, {machine['memory_gb']:g} GB, Linux {machine['kernel']}{gpu}"


def cpu_info() -> dict[str, str]:
    """Return the first processor's entries of /proc/cpuinfo; empty where that file does not exist."""
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def gpu_name() -> str:
    """Return the CUDA device's name, or ""; torch is imported only if a driver is loaded."""
    if not Path("/dev/nvidiactl").exists():
        return ""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def version_of(package: str) -> str | None:
    """Return the installed version of a package; None if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
