"""Measure training speed of small networks on one CPU thread: images/s of forward, backward and AdamW.

    python benchmarks/networks.py

The figure is the median of three runs. Images are noise in memory, so that no loader is measured. Run it on an idle
machine.
"""

import statistics
import time

import torch
from torch import nn

from fastdc.common.threads import keep_freed_memory
from fastdc.nn.models import build_model

NETWORKS = (("resnet10", 64), ("resnet10", 28), ("resnet18", 64), ("convnet_w32", 64), ("convnet_w32", 28))
BATCH, STEPS, RUNS, CLASSES = 50, 4, 3, 10


def speeds(arch: str, side: int, precision: str) -> list[float]:
    """Return images/s of each run, after a short warm-up."""
    model = build_model(arch, CLASSES, side, seed=0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images = torch.randn(BATCH, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (BATCH,))

    def train(steps: int) -> None:
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    train(2)
    found = []
    for _ in range(RUNS):
        start = time.perf_counter()
        train(STEPS)
        found.append(STEPS * BATCH / (time.perf_counter() - start))
    return found


def main() -> None:
    """Print a line for each network, side and precision."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as every training on the CPU does
    for arch, side in NETWORKS:
        for precision in ("fp32", "bf16"):
            found = speeds(arch, side, precision)
            middle = statistics.median(found)
            print(f"{arch} {side} px {precision}: {middle:.0f} images/s ({min(found):.0f} to {max(found):.0f})")


if __name__ == "__main__":
    main()
