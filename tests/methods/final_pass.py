"""An observer's final pass and log as plain arrays, with the interface that methods read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from fastdc.methods import MethodContext


@dataclass(frozen=True)
class ArrayPass:
    """Real features and outputs, float16 as on disk."""

    rows: np.ndarray
    probabilities: np.ndarray

    def features(self) -> np.ndarray:
        return self.rows

    def outputs(self) -> np.ndarray:
        return self.probabilities


@dataclass(frozen=True)
class ArrayObservation:
    """One observer run: `log` holds each field as float32 [T, N]."""

    final: ArrayPass
    log: dict[str, np.ndarray]
    folder: Path = Path("observer")

    @property
    def epochs(self) -> int:
        return len(self.log["el2n"])

    @property
    def num_samples(self) -> int:
        return len(self.final.rows)

    def field(self, name: str) -> np.ndarray:
        return self.log[name]


def made_up_context(labels: np.ndarray, seed: int = 0, width: int = 12, classes: int | None = None) -> MethodContext:
    """Return a context with features around class centres and outputs from these centres; distinct samples."""
    generator = np.random.default_rng(seed)
    num_classes = classes or int(labels.max()) + 1
    rows = generator.standard_normal((num_classes, width))[labels] + generator.standard_normal((len(labels), width))
    logits = np.eye(num_classes)[labels] * 2 + generator.standard_normal((len(labels), num_classes))
    outputs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return context_of(labels, rows, outputs, generator.random((12, len(labels))), num_classes)


def context_of(
    labels: np.ndarray, rows: np.ndarray, outputs: np.ndarray, log: np.ndarray, num_classes: int
) -> MethodContext:
    """Return a context over given arrays; every field of the log is `log`, float [T, N]."""
    final = ArrayPass(rows.astype(np.float16), outputs.astype(np.float16))
    fields = {name: log.astype(np.float32) for name in ("p_y", "p_other", "margin", "entropy", "el2n")}
    return MethodContext(
        labels=labels.astype(np.int64),
        classes=tuple(f"class {label}" for label in range(num_classes)),
        image_size=32,
        image=cast(Any, None),
        observations=(cast(Any, ArrayObservation(final, fields)),),
    )


def taken(context: MethodContext, samples: np.ndarray, classes: int | None = None) -> MethodContext:
    """Return the context of some samples only, in their order."""
    observation = cast(Any, context.observations[0])
    final, log = observation.final, observation.log["el2n"]
    num_classes = classes or len(context.classes)
    return context_of(
        context.labels[samples], final.rows[samples], final.probabilities[samples], log[:, samples], num_classes
    )
