"""Record what computed a run: versions, commit, machine, seeds, seconds and peak memory. It is part of no key."""

import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdc._version import __version__
from fastdc.common.keys import file_key
from fastdc.common.machine import cpu_name, installed_version

if TYPE_CHECKING:
    from fastdc.sweep.plan import Cell, SubsetPlan

LIBRARIES = ("torch", "torchvision", "numpy", "numba", "ffcv", "simplejpeg", "pillow", "safetensors", "timm", "ray")
GIT_SECONDS = 5.0


class Watch:
    """Meter of one run in this process, from its creation to `record`.

    The peak of memory is that of the run where the system can reset it (Linux). Elsewhere it is that of the process.
    """

    def __init__(self) -> None:
        self._started, self._clock = time.time(), time.monotonic()
        _reset_peaks()

    def record(self, cell: "Cell", together: int = 1) -> dict[str, Any]:
        """Return the record that `Store.finish` keeps, as JSON values.

        Args:
            cell: the run.
            together: runs that trained at once. Each has an equal part of the seconds, without the making of sets.
        """
        return {
            **versions(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "device": cell.label.get("device"),
            "device_name": _device_name(cell.label.get("device")),
            "precision": cell.label.get("precision"),
            "threads": cell.label.get("threads"),
            "seeds": {"training": cell.seed, "subset": None if cell.subset is None else cell.subset.seed},
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            "subset": subset_file(cell.subset),
            "seconds": round((time.monotonic() - self._clock) / together, 3),
            "peak_memory_bytes": peak_memory(),
            "peak_device_memory_bytes": peak_device_memory(),
        }


@lru_cache(maxsize=1)
def versions() -> dict[str, Any]:
    """Return the versions of fastdc, Python and the libraries, which do not change while this process runs."""
    return {
        "fastdc": __version__,
        "git": commit(Path(__file__).parents[2]),
        "python": sys.version.split()[0],
        "libraries": {name: found for name in LIBRARIES if (found := installed_version(name)) is not None},
    }


def commit(folder: Path) -> str | None:
    """Return the commit of a checkout, with "-dirty" if files differ from it; None for an installed package."""
    if not (folder / ".git").exists() or (git := shutil.which("git")) is None:
        return None
    # core.fsmonitor=false keeps git from running a program that the checkout's configuration names.
    command = [git, "-C", str(folder), "-c", "core.fsmonitor=false", "describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude=*"]  # without tags, describe prints the commit alone
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def subset_file(subset: "SubsetPlan | None") -> dict[str, Any] | None:
    """Describe the compressed set that a run trained on by name, bytes and SHA-256.

    The result is None for the training set itself, or if the set does not exist.
    """
    if subset is None or subset.ipc is None or not subset.path.exists():
        return None
    return {"file": subset.path.name, "bytes": subset.path.stat().st_size, "sha256": file_key(subset.path, 64)}


def peak_memory() -> int:
    """Return the largest resident memory of this process in bytes, since it was last reset."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, other systems KiB


def peak_device_memory() -> int | None:
    """Return the largest memory that torch has allocated on the GPU, in bytes; None without a GPU in use."""
    torch = _torch_on_cuda()
    return None if torch is None else int(torch.cuda.max_memory_allocated())


def _reset_peaks() -> None:
    with suppress(OSError):  # not Linux, or not permitted: the peak is then that of the process
        Path("/proc/self/clear_refs").write_text("5")  # "5" resets VmHWM and nothing else
    if (torch := _torch_on_cuda()) is not None:
        torch.cuda.reset_peak_memory_stats()


def _torch_on_cuda() -> Any:
    """Return torch if this process already uses it on a GPU; neither import nor start it here."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _device_name(device: str | None) -> str | None:
    """Return the model of the GPU, or of the CPU for runs on it; None if the GPU was not used in this process."""
    if device == "cpu":
        return cpu_name()
    torch = _torch_on_cuda()
    return None if torch is None else str(torch.cuda.get_device_name())
