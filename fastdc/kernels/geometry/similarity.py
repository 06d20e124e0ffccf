"""Similarities of samples, a few rows at a time, so that callers never need the whole matrix."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastdc.kernels.geometry.products import Panels

MATRIX_LIMIT = 8192
"""Largest group whose similarities are kept whole (256 MiB in float32); larger groups recompute rows on request."""
BITS = 24
"""Similarities in [0, 2^e] are rounded to multiples of 2^(e - BITS).

float32 holds these multiples, and their float64 sums are exact. Facility location has natural ties (two samples that
cover only each other gain the same), and the rounding of a sum must not decide a tie.
"""
BLOCK = 128
"""Rows computed at once."""


class Similarity(Protocol):
    """Symmetric similarities of pairs of samples; a row depends neither on other rows nor on how many are requested."""

    @property
    def size(self) -> int:
        """Number of samples n."""

    def rows(self, indices: NDArray[np.int64] | range) -> NDArray[np.float32]:
        """Return the similarities of some samples to all: float32 [m, n]."""


class CosineSimilarity:
    """Cosine similarity s_ij = 1/2 + cos(phi_i, phi_j) / 2, in [0, 1] as in DeepCore.

    A zero vector has cosine 0 with all.
    """

    def __init__(self, panels: Panels) -> None:
        self._unit = panels.normalised()

    @property
    def size(self) -> int:
        return self._unit.size

    def rows(self, indices: NDArray[np.int64] | range) -> NDArray[np.float32]:
        out = self._unit.products(self._unit.points(indices))
        out *= np.float32(0.5)
        out += np.float32(0.5)
        return _rounded(out, 1.0)


class ClippedCosineSimilarity(CosineSimilarity):
    """Clipped cosine s_ij = max(0, cos(phi_i, phi_j)), as in R-CAD's code; a zero vector has cosine 0 with all."""

    def rows(self, indices: NDArray[np.int64] | range) -> NDArray[np.float32]:
        return _rounded(np.clip(self._unit.products(self._unit.points(indices)), 0.0, 1.0), 1.0)


class GaussianSimilarity:
    """Gaussian kernel s_ij = exp(-||phi_i - phi_j||^2 / w).

    w is the mean squared distance of all pairs, or 1 if all are equal.
    """

    def __init__(self, panels: Panels) -> None:
        self._panels = panels.centred()
        self._squares = self._panels.self_products().astype(np.float64)
        mean = panels.total() / panels.size
        # The mean squared distance of all pairs is twice the mean squared distance to the mean.
        spread = 2.0 * float(panels.squared_distances(mean).mean())
        self._width = spread if spread > 0 else 1.0

    @property
    def size(self) -> int:
        return self._panels.size

    def rows(self, indices: NDArray[np.int64] | range) -> NDArray[np.float32]:
        distances = _squared_from_products(self._panels.products(self._panels.points(indices)), self._squares, indices)
        return _rounded(np.exp(distances / -self._width), 1.0)


@dataclass(frozen=True)
class GradientProducts:
    """Inner products of the last layer's gradients, g_i . g_j = (r_i . r_j) (h_i . h_j + 1).

    Let p be the softmax, y the label and h the features. Cross-entropy's gradient is r = p - onehot(y) for the bias and
    r h^T for the weights. Those C * (D + 1) numbers per sample are never computed.

    Attributes:
        residuals: r, of width C.
        features: h, of width D.
    """

    residuals: Panels
    features: Panels

    @property
    def size(self) -> int:
        """Number of samples n."""
        return self.features.size

    def rows(self, indices: NDArray[np.int64] | range) -> NDArray[np.float32]:
        """Return the inner products of some samples' gradients with all, float32 [m, n]."""
        out = self.features.products(self.features.points(indices))
        out += np.float32(1.0)
        out *= self.residuals.products(self.residuals.points(indices))
        return out

    def squares(self) -> NDArray[np.float32]:
        """Return the squared length of every gradient, bitwise equal to the diagonal of `rows`."""
        return (self.features.self_products() + np.float32(1.0)) * self.residuals.self_products()


class GradientSimilarity:
    """Similarity s_ij = c - ||g_i - g_j||_2 of the last layer's gradients (CRAIG, Mirzasoleiman et al. 2020).

    By the triangle inequality, the constant c = 2 max ||g|| makes every similarity non-negative. It changes no choice:
    it enters only the first pick's gain, with the same amount for every sample.
    """

    def __init__(self, gradients: GradientProducts) -> None:
        self._gradients = gradients
        self._squares = gradients.squares().astype(np.float64)
        self._constant = 2.0 * float(np.sqrt(self._squares.max()))

    @property
    def size(self) -> int:
        return self._gradients.size

    def rows(self, indices: NDArray[np.int64] | range) -> NDArray[np.float32]:
        distances = _squared_from_products(self._gradients.rows(indices), self._squares, indices)
        return _rounded(self._constant - np.sqrt(distances), self._constant)


class SimilarityMatrix:
    """Rows of another similarity, computed once and kept: float32 [n, n]."""

    def __init__(self, source: Similarity) -> None:
        size = source.size
        self._matrix = np.empty((size, size), np.float32)
        for start in range(0, size, BLOCK):
            block = range(start, min(start + BLOCK, size))
            self._matrix[start : block.stop] = source.rows(block)

    @property
    def size(self) -> int:
        return self._matrix.shape[0]

    def rows(self, indices: NDArray[np.int64] | range) -> NDArray[np.float32]:
        if isinstance(indices, range):
            return self._matrix[indices.start : indices.stop]
        return self._matrix[indices]


def kept_when_small(similarity: Similarity) -> Similarity:
    """Return the same similarities, kept whole if the group has at most `MATRIX_LIMIT` samples."""
    return SimilarityMatrix(similarity) if similarity.size <= MATRIX_LIMIT else similarity


def _squared_from_products(
    products: NDArray[np.float32], squares: NDArray[np.float64], indices: NDArray[np.int64] | range
) -> NDArray[np.float64]:
    """Return ||a - b||^2 = a.a + b.b - 2 a.b in float64, never below 0; exactly 0 for equal vectors."""
    out = products.astype(np.float64)
    out *= -2.0
    out += squares
    out += squares[np.asarray(indices, np.int64)][:, None]
    return np.maximum(out, 0.0, out=out)


def _rounded(similarities: NDArray[np.floating[Any]], largest: float) -> NDArray[np.float32]:
    """Round similarities in [0, largest] to `BITS` bits below the next power of two."""
    quantum = 2.0 ** (math.ceil(math.log2(largest)) - BITS) if largest > 0 else 1.0
    out = similarities / similarities.dtype.type(quantum)
    np.rint(out, out=out)
    out *= similarities.dtype.type(quantum)
    return out.astype(np.float32)
