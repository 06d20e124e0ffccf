"""Measure the time of a training step on this machine, as the basis of estimates before a run."""

import time
from dataclasses import dataclass

import torch
from torch import nn

from fastdc.loader import Batch
from fastdc.nn.device import Compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_plan import FitPlan, Recorder
from fastdc.nn.models import build_model, decay_weights_only
from fastdc.nn.step_graphs import CHECKED_STEPS

FEW_IMAGES = 8
MOST_IMAGES = 128
REPEATS = 3
LONG_STEP_SECONDS = 1.0


@dataclass(frozen=True)
class StepCost:
    """Seconds of a training step: a constant `step` (launches, optimizer) plus `image` for each image."""

    step: float
    image: float


def probe_steps(arch: str, image_size: int, num_classes: int, compute: Compute) -> StepCost:
    """Time training steps of a fresh network on noise images, in the loop that trains every network.

    Two batch sizes separate the cost of a step from that of an image. The first is 8; the second is 16 to 128, as
    large as a step of one second allows. The probe therefore ends in seconds on any machine. Reading and augmenting
    images are not included. On CUDA the steps are replayed as graphs where trainings do so; an observer never does.

    Args:
        arch, image_size, num_classes: as for `build_model`.

    Raises:
        ConfigError: the architecture is unknown, or too large for images of that size.
    """
    model = build_model(arch, num_classes, image_size, seed=0).to(compute.device)
    optimizer = torch.optim.AdamW(decay_weights_only(model, 0.01), lr=1e-6, fused=True)  # too slow to diverge on noise
    plan = FitPlan(  # more steps than will run: an epoch's end would do more than a step
        epochs=1, steps=10**9, learning_rate=lambda *_: 1e-6, loss=nn.functional.cross_entropy, seed=0, checkpoint=None
    )
    fit = Fit(model, optimizer, compute, plan, Recorder())
    with fit.running():
        fit.resume()
        # Warm-up: allocations, kernel selection, and the checked first steps of a graph.
        warm_up = 1 if fit.graphs is None else CHECKED_STEPS + 1
        _seconds(fit, FEW_IMAGES, image_size, num_classes, repeats=warm_up)
        few = _seconds(fit, FEW_IMAGES, image_size, num_classes, repeats=1)
        if few > LONG_STEP_SECONDS:  # so slow that the constant part does not matter
            again = _seconds(fit, FEW_IMAGES, image_size, num_classes, repeats=REPEATS - 1)
            return StepCost(step=0.0, image=min(few, again) / FEW_IMAGES)
        most = max(2 * FEW_IMAGES, min(MOST_IMAGES, int(LONG_STEP_SECONDS / few * FEW_IMAGES)))
        few = _seconds(fit, FEW_IMAGES, image_size, num_classes)
        _seconds(fit, most, image_size, num_classes, repeats=warm_up - 1)
        many = _seconds(fit, most, image_size, num_classes)
    image = max(0.0, many - few) / (most - FEW_IMAGES)
    return StepCost(step=max(0.0, few - FEW_IMAGES * image), image=image)


def _seconds(fit: Fit, images: int, image_size: int, num_classes: int, repeats: int = REPEATS) -> float:
    """Return the seconds of the fastest of several steps; the slower ones were disturbed by other load."""
    generator = torch.Generator().manual_seed(images)
    pixels = torch.randint(0, 256, (images, image_size, image_size, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, num_classes, (images,), generator=generator)
    batch = Batch(pixels, labels, torch.arange(images))
    taken = []
    for _ in range(repeats):
        start = time.monotonic()
        fit.take(batch)
        if fit.compute.device.type == "cuda":
            torch.cuda.synchronize()  # or the clock would see the launches only
        taken.append(time.monotonic() - start)
    return min(taken, default=0.0)
