"""The device engine against the resident engine: the same samples in the same order, and nearly the same levels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fastdc.loader import Batch, EvalView, TrainView, open_loader
from fastdc.loader.engines.device_drawing import choose_drawing
from fastdc.loader.view_settings import View
from gpu_sections.findings import Absent, Fact, Finding, Found
from gpu_sections.photos import make_photos
from gpu_sections.setup import Setup
from gpu_sections.timing import device_of, seconds_of

VIEWS: dict[str, View] = {
    "crop 224": TrainView(224),
    "crop 64": TrainView(64),
    "tile 112": TrainView(112, tile_grid=2),
    "whole 224": EvalView(224),
}
BATCH = 128


class Difference(NamedTuple):
    """Difference between two epochs: samples whose label or number is another, and the largest one of levels."""

    samples: int
    levels: int


def check(setup: Setup) -> Iterator[Finding]:
    """Compare one epoch of each view, then time the crops of 224 px on the device."""
    path = make_photos(setup)
    differences = {name: compare(path, view, setup.device) for name, view in VIEWS.items()}
    yield Fact("differences", {name: found._asdict() for name, found in differences.items()})
    yield Found("view-order", sum(found.samples for found in differences.values()))
    yield Found("view-levels", max(found.levels for found in differences.values()))
    yield _kernel_levels(setup, differences)
    yield Fact("views_per_second", _rate(setup, path))


def compare(path: Path, view: View, device: str) -> Difference:
    """Compare both engines over epoch 3, shuffled."""
    common: dict[str, Any] = {"batch_size": BATCH, "seed": 7, "shuffle": True}
    with (
        open_loader(path, view, engine="device", device=device, **common) as made,
        open_loader(path, view, engine="resident", **common) as expected,
    ):
        parts = [_compare_batches(*pair) for pair in zip(made.epoch(3), expected.epoch(3), strict=True)]
    return Difference(sum(part.samples for part in parts), max(part.levels for part in parts))


def _compare_batches(made: Batch, expected: Batch) -> Difference:
    other = (made.labels.cpu() != expected.labels) | (made.indices != expected.indices)
    levels = (made.images.cpu().short() - expected.images.short()).abs().max()
    return Difference(int(other.sum()), int(levels))


def _kernel_levels(setup: Setup, differences: dict[str, Difference]) -> Finding:
    """Return the largest difference of crops that Triton's kernel drew, which has to be none."""
    drawing = choose_drawing(device_of(setup))
    if drawing.way != "kernel":
        return Absent("kernel-levels", drawing.reason)
    drawn = [found.levels for name, found in differences.items() if isinstance(VIEWS[name], TrainView)]
    return Found("kernel-levels", max(drawn))


def _rate(setup: Setup, path: Path) -> float:
    """Return crops of 224 px per second in an epoch that nothing consumes."""
    with open_loader(path, TrainView(224), batch_size=BATCH, engine="device", device=setup.device) as loader:

        def epoch() -> None:
            for _ in loader.epoch(0):
                pass

        return setup.size.images / seconds_of(epoch, device_of(setup), times=2)
