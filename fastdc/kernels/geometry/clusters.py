"""Spherical k-means: seeded clusters of directions, deterministic for any number of threads.

Implemented here because scikit-learn and faiss are not dependencies and faiss's result depends on the number of
threads. Beside `Panels` it needs only the search for the nearest centroid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError
from fastdc.kernels.core.jit import kernel
from fastdc.kernels.geometry.products import LANES, QUAD, Panels, quad_products

ON_CENTROID = 1e-6
"""Largest 1 - cosine of a sample that lies on its centroid, within float32's precision."""


@dataclass(frozen=True)
class Clusters:
    """Result of `spherical_kmeans`.

    Attributes:
        centroids: float32 [k, D], unit length (or zero).
        assigned: int64 [n], the nearest centroid of every sample; ties go to the lower centroid.
        cosines: float64 [n], cosine of every sample with its centroid, -1 to 1; float32 would make ties near 1.
        iterations: how often the centroids were moved.
        converged: whether the last move changed no assignment.
    """

    centroids: NDArray[np.float32]
    assigned: NDArray[np.int64]
    cosines: NDArray[np.float64]
    iterations: int
    converged: bool


def spherical_kmeans(panels: Panels, clusters: int, seed: int, max_iterations: int) -> Clusters:
    """Run k-means on L2-normalised vectors with the cosine as similarity.

    A centroid is the normalised sum of its members. Seeds by k-means++ (Arthur & Vassilvitskii 2007): each next seed is
    drawn with probability proportional to 1 - cos(nearest seed). A cluster that loses all members restarts at the
    sample farthest from its centroid (lower index first, another sample for each empty cluster). It stays as it was if
    every sample lies on its centroid. Stops when no assignment changes. Sums in float64.

    Args:
        panels: vectors, of any length; zero vectors have cosine 0 with all.
        clusters: k, 1 to n.
        seed: of the k-means++ draws; already derived for this purpose.
        max_iterations: most moves of the centroids, at least 1.

    Raises:
        MethodError: `clusters` is out of range.
    """
    if not 1 <= clusters <= panels.size:
        raise MethodError(f"k-means: {clusters} clusters requested, but there are {panels.size} samples")
    unit = panels.normalised()
    movable = unit.squared_norms() > 0
    centroids = unit.points(_seeds(unit, clusters, seed))
    assigned, cosines = nearest_centroids(unit, centroids)
    for iteration in range(1, max_iterations + 1):
        misfit = np.where(movable, 1.0 - cosines, 0.0)
        centroids = _moved(unit, assigned, misfit, centroids)
        before = assigned
        assigned, cosines = nearest_centroids(unit, centroids)
        if (assigned == before).all():
            return Clusters(centroids, assigned, own_cosines(panels, centroids, assigned), iteration, True)
    return Clusters(centroids, assigned, own_cosines(panels, centroids, assigned), max_iterations, False)


def nearest_centroids(unit: Panels, centroids: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return every sample's centroid [k, D] of largest product, int64 [n], and that product, float32 [n]."""
    assigned, best = np.empty(unit.size, np.int64), np.empty(unit.size, np.float32)
    unit.share(lambda tiles, part: _nearest_in_panels(centroids, tiles, assigned[part], best[part]))
    return assigned, best


def own_cosines(panels: Panels, centroids: NDArray[np.float32], assigned: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return every sample's cosine with its assigned centroid [k, D], float64 [n]; 0 if either is zero."""
    points = centroids.astype(np.float64)
    squares = panels.squared_norms() * (points * points).sum(axis=1)[assigned]
    dots = np.empty(panels.size)
    panels.share(lambda tiles, part: _own_dots(points, tiles, assigned[part], dots[part]))
    np.divide(dots, np.sqrt(squares), out=dots, where=squares > 0)  # entries with squares == 0 have dots == 0 already
    return np.clip(dots, -1.0, 1.0, out=dots)


def _seeds(unit: Panels, clusters: int, seed: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.PCG64(seed))
    chosen = np.empty(clusters, np.int64)
    chosen[0] = int(generator.random() * unit.size)
    gap = np.maximum(1.0 - unit.dots(unit.point(int(chosen[0]))), 0.0)
    gap[chosen[0]] = 0.0
    for step in range(1, clusters):
        reach = np.cumsum(gap)
        if reach[-1] > 0:
            drawn = np.searchsorted(reach, generator.random() * reach[-1], side="right")
            pick = min(int(drawn), int(np.flatnonzero(gap)[-1]))  # rounding up could reach the end
        else:  # every remaining sample duplicates a seed: take the lowest index
            pick = int(np.setdiff1d(np.arange(unit.size), chosen[:step])[0])
        chosen[step] = pick
        np.minimum(gap, np.maximum(1.0 - unit.dots(unit.point(pick)), 0.0), out=gap)
        gap[pick] = 0.0
    return chosen


def _moved(
    unit: Panels, assigned: NDArray[np.int64], misfit: NDArray[np.float64], centroids: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the centroids of an assignment; empty clusters restart at the worst-fitting samples, if any."""
    clusters = centroids.shape[0]
    members = assigned.copy()
    empty = np.flatnonzero(np.bincount(assigned, minlength=clusters) == 0)
    if empty.size:
        # Worst fit first; the stable sort breaks ties by the lower index.
        worst = np.argsort(-misfit, kind="stable")[: empty.size]
        worst = worst[misfit[worst] > ON_CENTROID]
        members[worst] = empty[: worst.size]
    out = _normalised_rows(_member_sums(unit.tiles, members, clusters))
    kept = empty[np.bincount(members, minlength=clusters)[empty] == 0]
    out[kept] = centroids[kept]
    return out


def _normalised_rows(sums: NDArray[np.float64]) -> NDArray[np.float32]:
    norms = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
    out = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
    return np.asarray(out, np.float32)


@kernel
def _member_sums(tiles: NDArray[np.float32], assigned: NDArray[np.int64], clusters: int) -> NDArray[np.float64]:
    """Return the sum of each cluster's members in index order, float64 [k, D]."""
    out = np.zeros((clusters, tiles.shape[1]))
    for j in range(assigned.size):
        # One thread on purpose: the order of additions fixes the last bits.
        t, lane, cluster = j // LANES, j % LANES, assigned[j]
        for k in range(tiles.shape[1]):
            out[cluster, k] += tiles[t, k, lane]
    return out


@kernel
def _own_dots(
    points: NDArray[np.float64], tiles: NDArray[np.float32], assigned: NDArray[np.int64], out: NDArray[np.float64]
) -> None:
    """Write out[j] = points[assigned[j]] . sample j, each sum in index order, in float64."""
    for j in range(out.size):
        t, lane, own = j // LANES, j % LANES, assigned[j]
        total = 0.0
        for k in range(tiles.shape[1]):
            total += tiles[t, k, lane] * points[own, k]
        out[j] = total


@kernel
def _nearest_in_panels(
    centroids: NDArray[np.float32], tiles: NDArray[np.float32], assigned: NDArray[np.int64], best: NDArray[np.float32]
) -> None:
    quad = np.zeros((QUAD, tiles.shape[1]), np.float32)
    sums = np.empty((QUAD, LANES), np.float64)
    part = np.empty((QUAD, LANES), np.float32)
    best[:] = -np.inf
    for t in range(tiles.shape[0]):
        lanes = min(LANES, best.size - t * LANES)
        for first in range(0, centroids.shape[0], QUAD):
            rows = min(QUAD, centroids.shape[0] - first)
            quad[:rows] = centroids[first : first + rows]
            quad_products(quad, tiles[t], part, sums)
            for i in range(rows):
                for lane in range(lanes):
                    product = np.float32(sums[i, lane])
                    # Strictly greater: ties go to the lower centroid.
                    if product > best[t * LANES + lane]:
                        best[t * LANES + lane] = product
                        assigned[t * LANES + lane] = first + i
