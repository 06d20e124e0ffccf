"""Generated JPEGs of 224 px, and the time to decode them once onto the device."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastdc.beton import Sample, encode_jpeg, write_samples
from fastdc.common.threads import usable_cpus
from fastdc.loader import TrainView, open_loader
from fastdc.loader.engines.device import forget_images
from gpu_sections.findings import Fact, Finding, Found
from gpu_sections.setup import Setup
from gpu_sections.timing import device_of, wait

SIDE, CLASSES = 224, 100
CANVAS = 2048


def check(setup: Setup) -> Iterator[Finding]:
    """Make the images, then open them twice: the first time also compiles kernels."""
    start = time.perf_counter()
    path = make_photos(setup)
    yield Fact("make_seconds", time.perf_counter() - start)
    seconds = [_open_seconds(setup, path) for _ in range(2)]
    yield Fact("open_seconds", seconds)
    yield Fact("file_mb", path.stat().st_size / 1e6)
    yield Found("decode-rate", setup.size.images / seconds[1] / usable_cpus())


def make_photos(setup: Setup) -> Path:
    """Return the beton of the images; write it if no section has done so."""
    path = setup.folder / "photos.beton"
    if not path.exists():
        classes = [f"class{number:02}" for number in range(CLASSES)]
        samples = _samples(setup.size.images)
        write_samples(path, samples, classes=classes, dataset="generated", split=None, source="generated", made={})
    return path


def _samples(images: int) -> Iterator[Sample]:
    """Yield crops of one canvas: shapes of many sizes, and some grain, so that JPEG keeps and loses something."""
    random = np.random.default_rng(0)
    canvas = random.normal(0, 6, (CANVAS, CANVAS, 3))
    for cell in (8, 32, 128):
        coarse = random.normal(0, 35, (CANVAS // cell, CANVAS // cell, 3))
        canvas += np.repeat(np.repeat(coarse, cell, 0), cell, 1)
    pixels = np.clip(canvas + 120, 0, 255).astype(np.uint8)
    for number, (top, left) in enumerate(random.integers(0, CANVAS - SIDE, (images, 2))):
        crop = pixels[top : top + SIDE, left : left + SIDE]
        yield Sample(encode_jpeg(crop, 90), number % CLASSES, f"{number}")


def _open_seconds(setup: Setup, path: Path) -> float:
    """Return the seconds until all images are decoded and lie on the device."""
    forget_images()
    start = time.perf_counter()
    with open_loader(path, TrainView(SIDE), batch_size=1, engine="device", device=setup.device):
        wait(device_of(setup))
        return time.perf_counter() - start
