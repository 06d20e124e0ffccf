"""Inputs of the official pruning codes and of fastdc: formulas on PCG64's raw numbers, the same anywhere.

Everything is a multiple of a power of two, so that float16 and float32 hold it exactly.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

VALUES = Path(__file__).parent / "values"
EPOCHS, SAMPLES, CLASSES = 24, 40, 5
NEVER_LEARNED = [0, 1, 2]


def bell(seed: int, *shape: int, steps: int = 64) -> np.ndarray:
    """Return float64 numbers near a normal distribution, multiples of 1 / steps."""
    raw = np.random.PCG64(seed).random_raw(12 * int(np.prod(shape))).reshape(12, *shape)
    return np.round(((raw >> np.uint64(11)).sum(axis=0) / 2.0**53 - 6) * steps) / steps


def dynamics() -> tuple[np.ndarray, np.ndarray]:
    """Return logits float32 [EPOCHS, SAMPLES, CLASSES] of a training that learns, and labels int64 [SAMPLES]."""
    labels = np.arange(SAMPLES) % CLASSES
    logits = 1.5 * bell(1, 1, SAMPLES, CLASSES, steps=1024) + bell(2, EPOCHS, SAMPLES, CLASSES, steps=1024)
    logits[:, np.arange(SAMPLES), labels] += (np.arange(EPOCHS) / 8 - 0.5)[:, None]
    logits[:, NEVER_LEARNED, labels[NEVER_LEARNED]] -= 12
    return logits.astype(np.float32), labels


def network() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return features [60, 8], weights [3, 8] and bias [3] of a last linear layer, float32, and labels int64 [60]."""
    labels = np.arange(60) % 3
    features = bell(3, 3, 8)[labels] + bell(4, 60, 8)
    weights = (bell(3, 3, 8) + bell(5, 3, 8) / 4) / 4
    return features.astype(np.float32), weights.astype(np.float32), bell(6, 3).astype(np.float32), labels


def many_scores(seed: int) -> np.ndarray:
    """Return 400 scores, float32, most above 0, as AUM of a trained network has them."""
    return (np.abs(bell(seed, 400, steps=4096)) * 8 - 1 / 2).astype(np.float32)


def demand_series() -> np.ndarray:
    """Return EL2N of the samples of `network` at 8 epochs, float32 [8, 60]."""
    return (np.abs(bell(10, 8, 60, steps=4096)) / 4).astype(np.float32)


def official(name: str) -> Any:
    """Return the output of the official code: values/pruning_NAME.json."""
    return json.loads((VALUES / f"pruning_{name}.json").read_text())["values"]
