"""Checked logits of several epochs, read as the terms of the observer's log in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdc.common.errors import MethodError
from fastdc.kernels.scores.fields import TERMS

CHUNK = 1024
"""Samples per task; a thousand rows of a thousand logits are enough work for a thread."""


@dataclass(frozen=True)
class Trajectory:
    """Logits [T, N, C] of T epochs with their labels; implements `fastdc.methods.bases.score_formulas.Seen`.

    Attributes:
        logits: real numbers [T, N, C].
        labels: int64 [N].
        norms: float64 [N], Euclidean norms of the features at the last epoch; None without features.
        first: number of the first sample within the whole set, for messages.
    """

    logits: NDArray[Any]
    labels: NDArray[np.int64]
    norms: NDArray[np.float64] | None = None
    first: int = 0

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike, features: ArrayLike | None = None) -> "Trajectory":
        """Return a trajectory with checked shapes, types, labels and features; `part` checks the logits' values.

        Raises:
            MethodError: an input is unusable; the message gives what was found and what was expected.
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
        norms = None if features is None else _norms(features, classes.size)
        return cls(values, np.ascontiguousarray(classes, dtype=np.int64), norms)

    @property
    def epochs(self) -> int:
        """Return T, the number of epochs."""
        return int(self.logits.shape[0])

    @property
    def samples(self) -> int:
        """Return N, the number of samples."""
        return int(self.logits.shape[1])

    def part(self, start: int, stop: int) -> "Trajectory":
        """Return the samples start..stop-1, with all their logits checked.

        Raises:
            MethodError: a logit is NaN, infinite or larger in magnitude than `LARGEST_LOGIT`.
        """
        norms = None if self.norms is None else self.norms[start:stop]
        found = Trajectory(self.logits[:, start:stop], self.labels[start:stop], norms, self.first + start)
        for epoch in range(self.epochs):
            found._check(epoch)
        return found

    def series(self, name: str) -> NDArray[np.float64]:
        """Return the term `name` of `fastdc.kernels.scores.fields.TERMS` at every epoch, float64 [T, N]."""
        out = np.empty((self.epochs, self.samples))
        for epoch in range(self.epochs):
            out[epoch] = self._term(name, epoch)
        return out

    def last(self, name: str) -> NDArray[np.float64]:
        """Return the term `name` at the last epoch, or `feature_norm`; float64 [N]."""
        if name == "feature_norm":
            assert self.norms is not None, "features were given"
            return self.norms
        return self._term(name, self.epochs - 1)

    def steps(self) -> NDArray[np.float64]:
        """Return TDDS's distances between consecutive epochs, float64 [T - 1, N]; see `tdds_distances`."""
        from fastdc.kernels.scores.logit_terms import tdds_distances

        out = np.empty((self.epochs - 1, self.samples))
        before, norms = self._epoch(0), self._normalisers(0)
        for epoch in range(1, self.epochs):
            after, after_norms = self._epoch(epoch), self._normalisers(epoch)
            tdds_distances(before, after, norms, after_norms, out[epoch - 1])
            before, norms = after, after_norms
        return out

    def _term(self, name: str, epoch: int) -> NDArray[np.float64]:
        """Return a term at an epoch, counted from 0, float64 [N]."""
        from fastdc.kernels.scores.logit_terms import logit_terms

        out = np.empty((len(TERMS), self.samples))
        logit_terms(self._epoch(epoch), self.labels, out)
        found: NDArray[np.float64] = out[TERMS.index(name)]
        return found

    def _normalisers(self, epoch: int) -> NDArray[np.float64]:
        """Return the normalisers of an epoch, counted from 0, float64 [2, N]; see `log_normalisers`."""
        from fastdc.kernels.scores.logit_terms import log_normalisers

        out = np.empty((2, self.samples))
        log_normalisers(self._epoch(epoch), out)
        return out

    def _epoch(self, epoch: int) -> NDArray[Any]:
        """Return the logits of an epoch, counted from 0, as contiguous float32 or float64 [N, C]."""
        # float32 is unchanged, which saves memory; every other type becomes float64.
        kind = np.float32 if self.logits.dtype == np.float32 else np.float64
        return np.ascontiguousarray(self.logits[epoch], dtype=kind)

    def _check(self, epoch: int) -> None:
        from fastdc.kernels.scores.logit_terms import LARGEST_LOGIT, first_unusable

        values = self._epoch(epoch)
        bad = first_unusable(values)
        if bad >= 0:
            # `not abs(value) <= ...` is also true for NaN.
            worst = next(value for value in values[bad].tolist() if not abs(value) <= LARGEST_LOGIT)
            raise MethodError(
                f"epoch {epoch + 1}, sample {self.first + bad}: found logit {worst}, expected finite ones up to "
                f"{LARGEST_LOGIT:g}"
            )


def real_array(what: str, values: ArrayLike) -> NDArray[Any]:
    """Return `values` as an array of floats or whole numbers.

    Args:
        what: name of the values in messages.

    Raises:
        MethodError: the values are of another type, or rows differ in length.
    """
    try:
        found = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise MethodError(f"{what}: expected an array of numbers; {error}") from error
    if found.dtype.kind not in "fiu":
        raise MethodError(f"{what} of type {found.dtype}: expected real numbers")
    return found


def _norms(features: ArrayLike, samples: int) -> NDArray[np.float64]:
    """Return the Euclidean norm of every sample's features [N, D], float64 [N].

    Raises:
        MethodError: the shape or type is wrong, or a sum of squares is not finite.
    """
    values = real_array("features", features)
    if values.ndim != 2 or values.shape[0] != samples:
        raise MethodError(f"features {values.shape}: expected [{samples}, D]")
    values = values.astype(np.float64)
    squares: NDArray[np.float64] = np.einsum("nd,nd->n", values, values)
    bad = np.flatnonzero(~np.isfinite(squares))
    if bad.size:
        raise MethodError(
            f"features of sample {bad[0]}: their squares' sum is {squares[bad[0]]}, expected a finite one"
        )
    return np.sqrt(squares)
