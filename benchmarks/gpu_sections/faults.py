"""Faults on purpose: too little memory, a loss that is not finite, and a lost device. Each is classified by fastdc."""

import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from fastdc.common.errors import is_out_of_memory
from fastdc.sweep.cell_result import failure_of
from fastdc.sweep.failures import Failure, loses_device
from fastdc.sweep.launch.cell_worker import release_memory
from fastdc.train.evaluation import evaluate
from gpu_sections.cells import accuracy, native, settings_of
from gpu_sections.findings import Absent, Fact, Finding, Found
from gpu_sections.setup import Setup
from gpu_sections.timing import device_of

ROOM = 1 << 30
"""Bytes that the process may use more than it does; the first map of the large cell alone takes 1.7 GB."""


def check_memory(setup: Setup) -> Iterator[Finding]:
    """Train a cell that is too large for the memory, then an ordinary one in the same process."""
    accuracy(setup, 0, native(setup))  # imports, kernels and the GPU's libraries take memory of their own
    _limit_memory(setup)
    large = settings_of(1, 0, "fp32", {"batch_size": 100}, arch="resnet18", image_size=512)
    work = partial(evaluate, Path(setup.subset), Path(setup.val), large)
    yield from _classified("memory-named", work, "infrastructure", memory=True)
    release_memory()
    yield Found("memory-next", accuracy(setup, 0, native(setup)))


def _limit_memory(setup: Setup) -> None:
    if setup.on_cuda:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + ROOM) / total)
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _raised(work: Callable[[], object]) -> Exception | None:
    """Return the error of some work, without the frames that would keep its tensors alive."""
    try:
        work()
    except Exception as error:
        return error.with_traceback(None)
    return None


def check_errors(setup: Setup) -> Iterator[Finding]:
    """Reach a loss that is not finite, then lose the device, after which nothing works in this process."""
    yield from _classified("error-diverged", lambda: _diverge(setup), "diverged")
    if setup.on_cuda:
        yield from _classified("error-lost", lambda: _lose_device(setup), "infrastructure", lost=True)


def check_libraries(setup: Setup) -> Iterator[Finding]:
    """Let cuBLAS find no memory."""
    yield from _classified("error-cublas", lambda: _product_without_memory(setup), "infrastructure", memory=True)


def _classified(
    claim: str, work: Callable[[], object], expected: Failure, lost: bool = False, memory: bool = False
) -> Iterator[Finding]:
    """Do what fails, and yield how fastdc classifies the error, and whether that is right."""
    error = _raised(work)
    if error is None:
        yield Absent(claim, "no error was raised")
        return
    failure = failure_of(error)
    found = failure.failure, loses_device(error), is_out_of_memory(error)
    yield Fact(claim, {"type": type(error).__name__, "reason": failure.reason, "class, lost, memory": found})
    yield Found(claim, float(found == (expected, lost, memory)))


def _diverge(setup: Setup) -> None:
    evaluate(Path(setup.subset), Path(setup.val), settings_of(2, 0, native(setup), {"lr": 1e30}))


def _product_without_memory(setup: Setup) -> None:
    """Multiply on a stream of its own, whose cuBLAS handle finds no memory for its workspace."""
    device = device_of(setup)
    matrix = torch.ones(64, 64, device=device)
    ballast = fill(torch.cuda.mem_get_info()[0], lambda size: torch.empty(size, dtype=torch.uint8, device=device))
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        product = matrix @ matrix
        torch.cuda.synchronize()
    del ballast, product


def fill(free: int, take: Callable[[int], torch.Tensor], least: int = 1 << 20) -> list[torch.Tensor]:
    """Take memory in ever smaller blocks until not even `least` bytes are left."""
    taken, size = [], free
    while size >= least:
        try:
            taken.append(take(size))
        except torch.OutOfMemoryError:
            size //= 2
    return taken


def _lose_device(setup: Setup) -> None:
    """Look up a row that does not exist: a kernel's assertion fails, and with it the process's CUDA."""
    table = torch.zeros(4, 4, device=device_of(setup))
    table[torch.full((8,), 1 << 20, device=table.device)].sum().item()
