"""What computed a run: versions, commit, machine, seeds, seconds, peak memory. Kept with it, part of no key."""

import hashlib
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

import fastdc
from fastdc.nn.options import cpu_name, installed_version

if TYPE_CHECKING:
    from fastdc.sweep.plan import Cell, SubsetPlan

LIBRARIES = ("torch", "torchvision", "numpy", "numba", "ffcv", "simplejpeg", "pillow", "safetensors", "timm", "ray")
GIT_SECONDS = 5.0


class Watch:
    """Measures one run in this process, from its making to `told`.

    The peak of memory is that of the run where the system lets it be reset (Linux), else of the whole process.
    """

    def __init__(self) -> None:
        self._started, self._clock = time.time(), time.monotonic()
        _reset_peaks()

    def told(self, cell: "Cell") -> dict[str, Any]:
        """The record as `Store.finish` keeps it, JSON-able."""
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
            "seconds": round(time.monotonic() - self._clock, 3),
            "peak_memory_bytes": peak_memory(),
            "peak_device_memory_bytes": peak_device_memory(),
        }


@lru_cache(maxsize=1)
def versions() -> dict[str, Any]:
    """Of fastdc and of what it stands on; they stay the same as long as this process runs."""
    return {
        "fastdc": fastdc.__version__,
        "git": commit(Path(__file__).parent.parent.parent),
        "python": sys.version.split()[0],
        "libraries": {name: found for name in LIBRARIES if (found := installed_version(name)) is not None},
    }


def commit(folder: Path) -> str | None:
    """The commit of a checkout, with "-dirty" where files differ from it; None for an installed package."""
    if not (folder / ".git").exists() or (git := shutil.which("git")) is None:
        return None
    command = [git, "-C", str(folder), "-c", "core.fsmonitor=false", "describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude=*"]  # no tag: the commit alone
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def subset_file(subset: "SubsetPlan | None") -> dict[str, Any] | None:
    """Name, bytes and SHA-256 of the compressed set that a run trained on; None for the training set itself."""
    if subset is None or subset.ipc is None or not subset.path.exists():
        return None
    return {"file": subset.path.name, "bytes": subset.path.stat().st_size, "sha256": sha256_of(subset.path)}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    found = path.stat()
    return _sha256(path, found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1024)
def _sha256(path: Path, _inode: int, _size: int, _changed: int) -> str:
    """Hashed once for each state of the file, not for each run."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def peak_memory() -> int:
    """Largest resident memory of this process in bytes, since it was last reset."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_memory() -> int | None:
    """Largest memory that torch took on the GPU in bytes; None without one."""
    torch = _torch_on_cuda()
    return None if torch is None else int(torch.cuda.max_memory_allocated())


def _reset_peaks() -> None:
    with suppress(OSError):  # another system, or not allowed: the peak is that of the process
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM and nothing else
    if (torch := _torch_on_cuda()) is not None:
        torch.cuda.reset_peak_memory_stats()


def _torch_on_cuda() -> Any:
    """torch where it runs on a GPU already; never imported, never started from here."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _device_name(device: str | None) -> str | None:
    """Model of the GPU, or for runs on a CPU of that; None for a GPU that nothing was computed on."""
    if device == "cpu":
        return cpu_name()
    torch = _torch_on_cuda()
    return None if torch is None else str(torch.cuda.get_device_name())
