"""Contenders: scores from logits by fastdc's fused pass, by numpy and by torch; `official_scoring` has the others.

Every side receives the same logits batch by batch, as in a training, for some epochs. It ends with EL2N and AUM of
every sample, except DeepCore. Every side uses one thread.
"""

import tracemalloc
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from harness.race import Outcome
from numpy.typing import NDArray
from torch.nn import functional

BATCH = 256


class Logits(NamedTuple):
    """Batch of logits, labels and sample indices: float32 [B, C], int64 [B], int64 [B]."""

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]


class Scores(NamedTuple):
    """Mean EL2N and mean margin of every sample, [N] each."""

    el2n: NDArray[Any]
    aum: NDArray[Any]


class Scoring(ABC):
    """Base of all contenders.

    Args:
        samples, classes, epochs: sizes of a repetition.
        scratch: folder for files between training and scoring.
    """

    def __init__(self, samples: int, classes: int, epochs: int, scratch: str) -> None:
        self.samples, self.classes, self.epochs, self.scratch = samples, classes, epochs, Path(scratch)
        generator = np.random.default_rng(0)
        self.labels = generator.integers(0, classes, samples)
        self.logits = generator.standard_normal((samples, classes), np.float32) * 3
        self.logits[np.arange(samples), self.labels] += generator.standard_normal(samples, np.float32) * 4 + 6
        self.order = generator.permutation(samples)
        # Batches are made before the clock starts, because in a training the network computes them.
        self.batches = [self._batch(self.order[start : start + BATCH]) for start in range(0, samples, BATCH)]

    def _batch(self, indices: NDArray[np.int64]) -> Logits:
        return Logits(self.logits[indices], self.labels[indices], indices)

    def prepare(self, workers: int) -> None:
        """Limit torch to one thread and make the scratch folder."""
        torch.set_num_threads(1)
        self.scratch.mkdir(parents=True, exist_ok=True)

    def repeat(self, share: float) -> Outcome:
        """Take all epochs and compute the scores, whatever the share."""
        self.score()
        return Outcome(self.samples * self.epochs, facts=self.facts)

    def facts(self) -> dict[str, Any]:
        """Return the size of the data kept between training and scoring."""
        return {"bytes_kept_per_sample_and_epoch": self.kept_bytes() // (self.samples * self.epochs)}

    @abstractmethod
    def score(self) -> Scores:
        """Take all batches of all epochs, then compute the scores."""

    def kept_bytes(self) -> int:
        """Return the bytes kept for all samples and epochs; by default five float32 each."""
        return 5 * 4 * self.samples * self.epochs

    def check(self) -> dict[str, Any]:
        """Return the largest difference from float64 scores; 0.01 or more is an error.

        Logs in fp16 reach a few thousandths.
        """
        found, expected = self.score(), self.reference()
        apart = max(float(np.abs(left - right).max()) for left, right in zip(found, expected, strict=True))
        facts: dict[str, Any] = {"largest_error": float(f"{apart:.2g}")}
        return facts if apart < 0.01 else {**facts, "error": f"scores are {apart:.2g} off"}

    def reference(self) -> Scores:
        """Return the scores, computed in float64."""
        exact = self.logits.astype(np.float64)
        exact -= exact.max(1, keepdims=True)
        p = np.exp(exact)
        p /= p.sum(1, keepdims=True)
        rows = np.arange(self.samples)
        own, other = self.margin_terms(self.logits.astype(np.float64), p)
        margins = own[rows, self.labels] - largest_other(other, self.labels)
        p[rows, self.labels] -= 1
        return Scores(np.sqrt((p**2).sum(1)), margins)

    def margin_terms(self, logits: NDArray[Any], p: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the values of which the margin is computed: logits in AUM's paper, probabilities in CCS."""
        return logits, logits


def largest_other(values: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[Any]:
    """Return the largest value of every row, excluding the label's."""
    others = values.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    result: NDArray[Any] = others.max(1)
    return result


class Ours(Scoring):
    """Scoring by fastdc: one fused pass per batch to five scalars per sample, appended to a file per epoch; means."""

    def score(self) -> Scores:
        from fastdc.kernels.scores.dynamics import batch_dynamics
        from fastdc.kernels.scores.epochs import mean_over_epochs

        values = np.empty((5, self.samples), np.float32)
        path = self.scratch / "dynamics.f32"
        with path.open("wb") as log:
            for _ in range(self.epochs):
                for batch in self.batches:
                    batch_dynamics(batch.values, batch.labels, batch.indices, values)
                log.write(values.data)
        kept = np.memmap(path, np.float32, "r", shape=(self.epochs, 5, self.samples))
        el2n = mean_over_epochs(kept[:, 4], 0, self.epochs)
        return Scores(el2n, mean_over_epochs(kept[:, 2], 0, self.epochs))

    def check(self) -> dict[str, Any]:
        """Check as the base class; also report peak memory per sample for half and for all samples.

        The two agree if memory grows only with the number of samples.
        """
        facts, peaks = super().check(), []
        for samples in (self.samples // 2, self.samples):
            part = Ours(samples, self.classes, self.epochs, str(self.scratch))
            tracemalloc.start()
            part.score()
            peaks.append(round(tracemalloc.get_traced_memory()[1] / samples, 1))
            tracemalloc.stop()
        return {**facts, "peak_bytes_per_sample_of_half_and_whole": peaks}


class Numpy(Scoring):
    """Scoring by numpy: the same five scalars, one batch at a time."""

    def score(self) -> Scores:
        log = np.empty((self.epochs, 5, self.samples), np.float32)
        for epoch in range(self.epochs):
            for batch in self.batches:
                log[epoch][:, batch.indices] = numpy_dynamics(batch)
        return Scores(log[:, 4].mean(0), log[:, 2].mean(0))


def numpy_dynamics(batch: Logits) -> NDArray[np.float32]:
    """Return p of the label, largest other p, margin, entropy, EL2N: float32 [5, B]."""
    logits, rows = batch.values, np.arange(len(batch.labels))
    shifted = logits - logits.max(1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(1, keepdims=True)
    p = exponentials / total
    p_y = p[rows, batch.labels]
    margin = logits[rows, batch.labels] - largest_other(logits, batch.labels)
    entropy = np.log(total[:, 0]) - (p * shifted).sum(1)
    p_other = largest_other(p, batch.labels)
    p[rows, batch.labels] -= 1
    return np.stack([p_y, p_other, margin, entropy, np.sqrt(np.einsum("ij,ij->i", p, p))])


class Torch(Scoring):
    """Scoring by torch: the same five scalars, one batch at a time."""

    def score(self) -> Scores:
        log = torch.empty((self.epochs, 5, self.samples))
        for epoch in range(self.epochs):
            for batch in self.batches:
                log[epoch][:, torch.from_numpy(batch.indices)] = torch_dynamics(batch)
        return Scores(log[:, 4].mean(0).numpy(), log[:, 2].mean(0).numpy())


@torch.no_grad()
def torch_dynamics(batch: Logits) -> torch.Tensor:
    """Return the values of `numpy_dynamics` as a tensor."""
    logits, label = torch.from_numpy(batch.values), torch.from_numpy(batch.labels)[:, None]
    log_p = functional.log_softmax(logits, 1)
    p = log_p.exp()
    p_y = p.gather(1, label)[:, 0]
    entropy = -(p * log_p).sum(1)
    own = logits.gather(1, label)[:, 0]
    top, places = logits.topk(2, 1)  # the largest other logit is one of the two largest
    first = places[:, 0] == label[:, 0]
    other = torch.where(first, top[:, 1], top[:, 0])
    p_other = (other - logits.logsumexp(1)).exp()
    el2n = p.scatter_add_(1, label, torch.full_like(own, -1)[:, None]).norm(dim=1)
    return torch.stack([p_y, p_other, own - other, entropy, el2n])
