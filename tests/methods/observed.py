"""Small observer runs for tests of methods: real logs on disk, and the final pass and TDDS steps in memory."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from fastdc.kernels.scores.dynamics import batch_dynamics
from fastdc.kernels.scores.fields import FIELDS
from fastdc.methods import MethodContext
from fastdc.observe.dynamics_log import Observation, append_epoch, commit, load_observation
from tests.methods.score_references import log_softmax, softmax


@dataclass(frozen=True)
class InMemoryFinal:
    """Part of a final pass that score methods read."""

    values: dict[str, np.ndarray]

    def field(self, name: str) -> np.ndarray:
        return self.values[name]


class FinishedObservation(Observation):
    """Real observation with a final pass and TDDS steps set by the test."""

    parts: dict[Path, tuple[InMemoryFinal, np.ndarray]] = {}  # noqa: RUF012

    @property
    def final(self) -> InMemoryFinal:
        return self.parts[self.folder][0]

    @property
    def tdds(self) -> np.ndarray:
        return self.parts[self.folder][1]


def observe_logits(folder: Path, logits: np.ndarray, labels: np.ndarray, features: np.ndarray) -> Observation:
    """Record a run with `logits` [T, N, C]; the last epoch is also the final pass."""
    folder.mkdir()
    for epoch, batch in enumerate(logits):
        values = np.full((len(FIELDS), labels.size), np.nan, np.float32)
        batch_dynamics(batch.astype(np.float32), labels, np.arange(labels.size), values)
        append_epoch(folder, epoch, values)
    seconds = tuple(float(epoch) for epoch in range(1, len(logits) + 1))
    commit(Observation(folder, labels.size, seconds, {}, 1, 0.0, {}))
    record = load_observation(folder)
    assert record is not None
    run = FinishedObservation(**{field.name: getattr(record, field.name) for field in fields(record)})
    run.parts[folder] = (final_pass(logits[-1], labels, features), tdds_steps(logits))
    return run


def final_pass(logits: np.ndarray, labels: np.ndarray, features: np.ndarray) -> InMemoryFinal:
    p = np.array([softmax(row) for row in logits])
    ordered = np.sort(p, axis=1)
    values = {
        "p_rest": 1 - ordered[:, -1],
        "gap": ordered[:, -1] - ordered[:, -2],
        "p_max": ordered[:, -1],
        "p_second": ordered[:, -2],
        "entropy": np.array([-(softmax(row) * log_softmax(row)).sum() for row in logits]),
        "el2n": np.linalg.norm(p - np.eye(logits.shape[1])[labels], axis=1),
        "feature_norm": np.linalg.norm(features, axis=1),
    }
    return InMemoryFinal({name: column.astype(np.float32) for name, column in values.items()})


def tdds_steps(logits: np.ndarray) -> np.ndarray:
    logs = np.array([[log_softmax(row) for row in epoch] for epoch in logits])
    return np.abs(np.exp(logs[1:]) * (logs[1:] - logs[:-1])).sum(axis=2).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """Two runs over the same samples, with their logits."""

    logits: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    context: MethodContext


def make_case(folder: Path, *, runs: int = 2, epochs: int = 14, per_class: int = 12, classes: int = 4) -> Case:
    """Record `runs` runs over classes * per_class samples in mixed order; logits [R, T, N, C], features [R, N, 6]."""
    generator = np.random.default_rng(runs * 1000 + epochs)
    labels = generator.permutation(np.repeat(np.arange(classes), per_class))
    drift = generator.standard_normal((1, 1, labels.size, classes)) * 1.5
    logits = drift + generator.standard_normal((runs, epochs, labels.size, classes))
    logits[..., np.arange(labels.size), labels] += np.linspace(-0.5, 2.5, epochs)[None, :, None]
    logits[:, :, :3] -= 30 * np.eye(classes)[labels[:3]]  # three samples are never correct
    features = generator.standard_normal((runs, labels.size, 6))
    observations = tuple(
        observe_logits(folder / f"run{run}", logits[run], labels, features[run]) for run in range(runs)
    )
    context = MethodContext(
        labels=labels,
        classes=tuple(f"class{label}" for label in range(classes)),
        image_size=8,
        image=lambda index: np.zeros((8, 8, 3), np.uint8),
        observations=observations,
    )
    return Case(logits.astype(np.float32), labels, features, context)
