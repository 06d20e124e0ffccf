"""Measure a training step on the CPU: whole, and the part that Python and the dispatch of operations take.

    python benchmarks/steps.py [--threads 1]

The second figure is a step of one sample through the same layers with one channel. It runs the same operations with
next to no arithmetic, so it bounds what an epoch without Python between its steps could save. Images lie in memory, so
that no loader is measured. Run it on an idle machine.
"""

import argparse
import statistics

import torch
from gpu_sections.trainings import EpochClock, SameBatch
from torch import nn

from fastdc.loader import Batch
from fastdc.nn.device import choose_compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import run_fit
from fastdc.nn.fit_plan import FitPlan
from fastdc.nn.models import build_model
from fastdc.train import get_protocol
from fastdc.train.network_training import make_optimizer

CASES = (("convnet", 28, 10), ("convnet_w32", 28, 10), ("convnet", 28, 100), ("resnet10", 64, 10), ("resnet10", 64, 50))
CLASSES, STEPS, EPOCHS = 10, 10, 9


def step_ms(arch: str, side: int, size: int, threads: int) -> list[float]:
    """Return milliseconds of a step of `size` samples, for each epoch after the first two."""
    model = build_model(arch, CLASSES, side, seed=0)
    plan = FitPlan(EPOCHS, STEPS, lambda *_: 1e-3, nn.functional.cross_entropy, seed=0)
    clock = EpochClock()
    compute = choose_compute("fp32", threads)
    fit = Fit(model, make_optimizer(model, get_protocol("hard"), "fp32"), compute, plan, clock)
    images = torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8)
    run_fit(fit, SameBatch(Batch(images, torch.arange(size) % CLASSES, torch.arange(size)), STEPS))
    return [1000 * seconds / STEPS for seconds in clock.seconds[2:]]


def main() -> None:
    """Print a line for each network, side and batch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for arch, side, size in CASES:
        narrow = f"{arch.partition('_')[0]}_w1"
        whole = step_ms(arch, side, size, options.threads)
        empty = step_ms(narrow, side, 1, options.threads)
        middle, overhead = statistics.median(whole), statistics.median(empty)
        print(
            f"{arch} {side} px, batch {size}: {middle:.2f} ms ({min(whole):.2f} to {max(whole):.2f}), "
            f"of which overhead {overhead:.2f} ms ({min(empty):.2f} to {max(empty):.2f}), {overhead / middle:.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
