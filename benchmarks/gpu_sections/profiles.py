"""Trainings under the profiler: images per second, the share of time in which the GPU idles, launches per step."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from fastdc.nn.fit_loop import run_fit, steps_per_epoch
from gpu_sections.findings import Absent, Fact, Finding, Found
from gpu_sections.photos import CLASSES, make_photos
from gpu_sections.setup import Setup
from gpu_sections.trainings import WARM_UP, Case, EpochClock, SameBatch, images_per_second, make_fit, open_case, train

LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")


def check(setup: Setup) -> Iterator[Finding]:
    """Time and profile each network in each precision."""
    rates: dict[str, float] = {}
    for case in cases(setup, make_photos(setup)):
        figures = measure(setup, case)
        rates[case.name] = figures["images_per_second"]
        yield Fact(case.name, figures)
        if case.name == "resnet18 224 px bf16":
            yield from _judged(setup, case, figures)
    yield Found("bf16-gain", rates["resnet18 224 px bf16"] / rates["resnet18 224 px fp32"])


def cases(setup: Setup, photos: Path) -> Iterator[Case]:
    """Yield ResNet-18 at 224 and 64 px and the ConvNet of the 28-px cells, the latter at its protocol's batch."""
    size = setup.size
    for precision in ("bf16", "tf32", "fp32") if setup.on_cuda else ("bf16", "fp32"):
        yield Case("resnet18", 224, precision, photos, CLASSES, size.trained, size.batch, 2)
        yield Case("resnet18", 64, precision, photos, CLASSES, size.trained, size.batch, 4)
        yield Case("convnet", 28, precision, Path(setup.subset), 10, 100, 10, size.timed)


def measure(setup: Setup, case: Case) -> dict[str, Any]:
    """Train a case, then one more epoch of it under the profiler."""
    rate = images_per_second(case, train(setup, case))
    events = _profiled(setup, case)
    steps = -(-case.images // case.batch)
    # Ranges that a user or torch's optimizer names are shown on the GPU too, with the gaps inside them.
    work = [event for event in events if event.device_type.name == "CUDA" and not event.is_user_annotation]
    busy = busy_seconds((event.time_range.start, event.time_range.end) for event in work)
    launches = sum(event.name in LAUNCHES for event in events)
    # The profiler slows the host, so kernels are timed under it and the whole epoch is timed without.
    idle = 1 - busy / (case.images / rate) if busy else None
    return {"images_per_second": rate, "launches_per_step": launches / steps, "idle_share": idle}


def _profiled(setup: Setup, case: Case) -> list[Any]:
    """Return the events of one epoch after the warm-up."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setup.on_cuda else [])]
    profiler = profile(activities=activities)
    clock = EpochClock({WARM_UP - 1: profiler.start, WARM_UP: profiler.stop})
    with open_case(setup, case) as loader:
        run_fit(make_fit(case._replace(timed=1), loader, clock), loader)
    return list(profiler.events())  # type: ignore[no-untyped-call]


def busy_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """Return the seconds that spans of microseconds cover, counting what overlaps once."""
    total, covered = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, covered))
        covered = max(covered, end)
    return total / 1e6


def _judged(setup: Setup, case: Case, figures: dict[str, Any]) -> Iterator[Finding]:
    """Yield what decides the claims on ResNet-18 at 224 px in bf16."""
    with open_case(setup, case) as loader:
        batch, steps = next(loader.epoch(0)), steps_per_epoch(loader)
    fed, alone = figures["images_per_second"], images_per_second(case, train(setup, case, SameBatch(batch, steps)))
    yield Fact("resnet18 224 px bf16, one batch again and again", alone)
    yield Found("fed", fed / alone)
    if figures["idle_share"] is None:
        yield Absent("idle", "the profiler saw no work of a GPU")
    else:
        yield Found("idle", figures["idle_share"])
    if "H200" in (torch.cuda.get_device_name() if setup.on_cuda else ""):
        yield Found("rate-h200", fed)
    else:
        yield Absent("rate-h200", "the GPU is not an H200")
