"""Spherical k-means: a fixed point of its definition, known clusters, and hard cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.kernels.geometry.clusters import nearest_centroids, spherical_kmeans
from fastdc.kernels.geometry.products import pack


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 90 points around 3 distant directions in 8 dimensions."""
    labels = np.arange(90) % 3
    noise = np.random.default_rng(seed).standard_normal((90, 8)) * 0.05
    return (np.eye(8)[labels] + noise).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(5))
def test_known_clusters_are_found(seed: int) -> None:
    rows, labels = blobs(seed)
    found = spherical_kmeans(pack(rows), 3, seed, 50)
    assert found.converged
    assert len({(int(a), int(b)) for a, b in zip(found.assigned, labels, strict=True)}) == 3


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 80), st.integers(1, 9), st.integers(0, 999), st.data())
def test_the_result_is_a_fixed_point(size: int, width: int, seed: int, data: st.DataObject) -> None:
    clusters = data.draw(st.integers(1, size))
    rows = np.random.default_rng(seed).standard_normal((size, width)).astype(np.float32)
    found = spherical_kmeans(pack(rows), clusters, seed, 100)
    exact = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    cosines = exact @ found.centroids[:, :width].astype(np.float64).T
    assert (cosines[np.arange(size), found.assigned] >= cosines.max(axis=1) - 1e-5).all()
    np.testing.assert_allclose(found.cosines, cosines.max(axis=1), atol=1e-5)
    assert found.converged
    for cluster in np.unique(found.assigned):
        total = exact[found.assigned == cluster].sum(axis=0)
        if np.linalg.norm(total) > 1e-3:
            np.testing.assert_allclose(found.centroids[cluster, :width], total / np.linalg.norm(total), atol=1e-4)


def test_same_seed_same_bytes_for_any_number_of_threads() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 33)).astype(np.float32)
    one, many = (spherical_kmeans(pack(rows, workers), 7, 5, 30) for workers in (1, 3))
    other = spherical_kmeans(pack(rows), 7, 6, 30)
    assert (one.centroids == many.centroids).all()
    assert (one.assigned == many.assigned).all()
    assert (one.assigned != other.assigned).any()


def test_duplicates_zero_vectors_and_as_many_clusters_as_samples() -> None:
    equal = spherical_kmeans(pack(np.ones((6, 3), np.float32)), 4, 0, 20)
    np.testing.assert_allclose(equal.cosines, 1, atol=1e-6)
    zero = spherical_kmeans(pack(np.zeros((6, 3), np.float32)), 2, 0, 20)
    assert (zero.cosines == 0).all()
    opposite = spherical_kmeans(pack(np.array([[1.0], [1], [-1], [1], [-1], [1], [1]])), 7, 0, 20)
    assert equal.converged
    assert zero.converged
    assert opposite.converged  # no empty cluster keeps moving
    every = spherical_kmeans(pack(np.eye(5, dtype=np.float32)), 5, 0, 20)
    assert sorted(every.assigned.tolist()) == [0, 1, 2, 3, 4]
    for clusters in (0, 7):
        with pytest.raises(MethodError, match="there are 6 samples"):
            spherical_kmeans(pack(np.ones((6, 3), np.float32)), clusters, 0, 20)


def test_equal_centroids_give_the_lower_one() -> None:
    assigned, _ = nearest_centroids(
        pack(np.eye(2, 32, dtype=np.float32)), np.eye(2, 32, dtype=np.float32)[[0, 0, 1, 1]]
    )
    assert assigned.tolist() == [0, 2]


def test_cosines_in_float64_keep_near_ones_apart() -> None:
    generator = np.random.default_rng(0)
    rows = (generator.standard_normal(64) + 1e-3 * generator.standard_normal((500, 64))).astype(np.float32)
    found = spherical_kmeans(pack(rows, 2), 1, 0, 20)
    exact, center = rows.astype(np.float64), found.centroids[0, :64].astype(np.float64)
    expected = exact @ center / np.linalg.norm(exact, axis=1) / np.linalg.norm(center)
    np.testing.assert_allclose(1 - found.cosines, 1 - expected, atol=1e-14)
    assert np.unique(found.cosines).size == 500
