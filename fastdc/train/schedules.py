"""Batch sizes, epochs and learning rates that recipes derive from a set's size or the epoch. Imports no torch."""

import math
from collections.abc import Callable
from typing import Literal

BatchRule = Literal["small", "cim"]
EpochRule = Literal["ipc"]
Schedule = Literal["cosine", "linear", "constant", "idc", "dc"]

SMALL_BATCH_RANGE = (10, 128)
CIM_BATCHES = ((10, 10), (500, 50), (20_000, 100))  # (most images, batch size)
CIM_LARGEST_BATCH = 200
MINIMAX_EPOCHS = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))  # (most images per class, epochs)
MINIMAX_FEWEST_EPOCHS = 300
IDC_FACTOR, DC_FACTOR = 0.2, 0.1


def small_batch(images: int) -> int:
    """Return a tenth of the set, at least 10 and at most 128.

    For sets of few classes, which at IPC 10 would be a single batch of 128.
    """
    low, high = SMALL_BATCH_RANGE
    return min(max(images // 10, low), high)


def cim_batch(images: int) -> int:
    """Return the batch size that CIM's evaluator uses for a set of `images` images."""
    return next((batch for most, batch in CIM_BATCHES if images <= most), CIM_LARGEST_BATCH)


BATCH_RULES: dict[BatchRule, Callable[[int], int]] = {"small": small_batch, "cim": cim_batch}


def epochs_by_ipc(ipc: int, classes: int) -> int:
    """Return the epochs of MinimaxDiffusion's code; with 100 classes two thirds of them, rounded down to hundreds."""
    epochs = next((epochs for most, epochs in MINIMAX_EPOCHS if ipc <= most), MINIMAX_FEWEST_EPOCHS)
    return epochs * 2 // 3 // 100 * 100 if classes == 100 else epochs


def rate_share(schedule: Schedule, epoch: int, epochs: int) -> float:
    """Return the learning rate of `epoch` (counted from 0) as a share of the first epoch's.

    `cosine` and `linear` reach 0 after the last epoch. `idc` multiplies by 0.2 at 2/3 and at 5/6 of the epochs (Kim et
    al., ICML 2022; also in CIM and MinimaxDiffusion). `dc` multiplies by 0.1 after half of them (Zhao et al., ICLR
    2021).
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    if schedule == "linear":
        return 1 - epoch / epochs
    if schedule == "idc":
        return IDC_FACTOR ** sum(epoch >= start for start in (2 * epochs // 3, 5 * epochs // 6))
    if schedule == "dc":
        return DC_FACTOR if epoch >= epochs // 2 + 1 else 1.0  # the first epoch of DC's own code
    return 1.0
