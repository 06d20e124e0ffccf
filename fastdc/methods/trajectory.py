"""Logits of several epochs, checked, and the per-sample terms that scores are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdc.errors import MethodError

CHUNK = 1024
"""Samples per task: a thousand rows of a thousand logits are enough work for a thread."""


@dataclass(frozen=True)
class Trajectory:
    """Logits [T, N, C] of T epochs with their labels. One epoch at a time is looked at, in float64.

    Attributes:
        logits: real numbers [T, N, C].
        labels: int64 [N].
    """

    logits: NDArray[Any]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike) -> "Trajectory":
        """Check shapes, types and labels; the logits themselves are checked as they are read.

        Raises:
            MethodError: says what was found and what was expected.
        """
        values, classes = real_array("logits", logits), np.asarray(labels)
        if values.ndim != 3 or min(values.shape) < 1 or values.shape[2] < 2:
            raise MethodError(f"logits {values.shape}: expected [T, N, C] with T, N >= 1 and C >= 2")
        if classes.shape != values.shape[1:2]:
            raise MethodError(
                f"labels {classes.shape}: expected [{values.shape[1]}], one for each sample of the logits"
            )
        if classes.dtype.kind not in "iu":
            raise MethodError(f"labels of type {classes.dtype}: expected integers")
        bad = np.flatnonzero((classes < 0) | (classes >= values.shape[2]))
        if bad.size:
            raise MethodError(
                f"label {classes[bad[0]]} of sample {bad[0]}: expected 0..{values.shape[2] - 1}, the logits' classes"
            )
        return cls(values, np.ascontiguousarray(classes, dtype=np.int64))

    @property
    def epochs(self) -> int:
        """T."""
        return int(self.logits.shape[0])

    @property
    def samples(self) -> int:
        """N."""
        return int(self.logits.shape[1])

    def last(self, term: str) -> NDArray[np.float64]:
        """A term of `fastdc.kernels.logits.TERMS` at the last epoch, float64 [N]; every epoch is checked."""
        for epoch in range(self.epochs - 1):
            self._epoch(epoch)
        return self._term(term, self.epochs - 1)

    def mean(self, term: str) -> NDArray[np.float64]:
        """A term's mean over the epochs, float64 [N]."""
        total = np.zeros(self.samples)
        for epoch in range(self.epochs):
            total += self._term(term, epoch)
        return total / self.epochs

    def series(self, term: str) -> NDArray[np.float64]:
        """A term at every epoch, float64 [T, N]."""
        return np.stack([self._term(term, epoch) for epoch in range(self.epochs)])

    def steps(self) -> NDArray[np.float64]:
        """TDDS's distances between consecutive epochs, float64 [T - 1, N]; see `tdds_distances`."""
        out = np.empty((self.epochs - 1, self.samples))
        before = self._epoch(0)
        norms = _normalisers(before)
        for epoch in range(1, self.epochs):
            after = self._epoch(epoch)
            after_norms = _normalisers(after)
            _distances(before, after, norms, after_norms, out[epoch - 1])
            before, norms = after, after_norms
        return out

    def _term(self, term: str, epoch: int) -> NDArray[np.float64]:
        from fastdc.kernels.logits import TERMS, logit_terms

        values, out = self._epoch(epoch), np.empty((len(TERMS), self.samples))
        _on_all_samples(lambda a, b: logit_terms(values, self.labels, a, b, out), self.samples)
        found: NDArray[np.float64] = out[TERMS.index(term)]
        return found

    def _epoch(self, epoch: int) -> NDArray[Any]:
        """The logits of an epoch, counted from 0: contiguous float32 or float64 [N, C].

        Raises:
            MethodError: a logit is NaN, infinite or beyond the largest that is allowed.
        """
        from fastdc.kernels.logits import LARGEST_LOGIT, first_unusable

        kind = np.float32 if self.logits.dtype == np.float32 else np.float64
        values = np.ascontiguousarray(self.logits[epoch], dtype=kind)
        bad = first_unusable(values)
        if bad >= 0:
            worst = next(value for value in values[bad].tolist() if not abs(value) <= LARGEST_LOGIT)
            raise MethodError(
                f"epoch {epoch + 1}, sample {bad}: found logit {worst}, expected finite ones up to {LARGEST_LOGIT:g}"
            )
        return values


def real_array(what: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as an array of floats or whole numbers.

    Args:
        what: names them in messages.

    Raises:
        MethodError: they are of another type, or rows differ in length.
    """
    try:
        found = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise MethodError(f"{what}: expected an array of numbers; {error}") from error
    if found.dtype.kind not in "fiu":
        raise MethodError(f"{what} of type {found.dtype}: expected real numbers")
    return found


def _normalisers(logits: NDArray[Any]) -> NDArray[np.float64]:
    """float64 [2, N]: see `log_normalisers`."""
    from fastdc.kernels.logits import log_normalisers

    out = np.empty((2, logits.shape[0]))
    _on_all_samples(lambda a, b: log_normalisers(logits, a, b, out), logits.shape[0])
    return out


def _distances(
    before: NDArray[Any],
    after: NDArray[Any],
    before_norms: NDArray[np.float64],
    after_norms: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    from fastdc.kernels.logits import tdds_distances

    _on_all_samples(lambda a, b: tdds_distances(before, after, before_norms, after_norms, a, b, out), out.size)


def _on_all_samples(work: Callable[[int, int], Any], samples: int) -> None:
    from fastdc.kernels.samples import over_samples

    over_samples(work, samples, chunk=CHUNK)
