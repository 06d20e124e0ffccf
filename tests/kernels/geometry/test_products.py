"""Packed vectors against numpy in float64; a result depends only on its two vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.kernels.geometry.products import Panels, pack


def vectors(size: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((size, width)).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 100), st.integers(1, 80), st.integers(1, 3), st.integers(0, 99))
def test_equals_numpy_in_float64(size: int, width: int, workers: int, seed: int) -> None:
    rows = vectors(size, width, seed)
    panels, exact = pack(rows, workers), rows.astype(np.float64)
    some = np.arange(size)[:: max(1, size // 5)]
    expected = exact[some] @ exact.T
    np.testing.assert_allclose(panels.products(panels.points(some)), expected, atol=1e-5 * width**0.5)
    np.testing.assert_allclose(panels.points(some)[:, :width], rows[some])
    np.testing.assert_allclose(panels.dots(panels.point(0)), exact @ exact[0], atol=1e-12 * width)
    np.testing.assert_allclose(
        panels.squared_distances(panels.point(0)), ((exact - exact[0]) ** 2).sum(axis=1), rtol=1e-12
    )
    np.testing.assert_allclose(panels.total()[:width], exact.sum(axis=0), atol=1e-10)
    unit = panels.normalised().points(range(size))[:, :width]
    np.testing.assert_allclose(unit, exact / np.linalg.norm(exact, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("workers", [2, 3, 7, 50])
def test_any_number_of_threads_gives_the_same_bytes(workers: int) -> None:
    rows = vectors(333, 65)
    one, many = pack(rows), pack(rows, workers)
    assert (one.products(one.points(range(9))) == many.products(many.points(range(9)))).all()
    assert (one.dots(one.point(5)) == many.dots(many.point(5))).all()
    assert (one.squared_distances(one.point(5)) == many.squared_distances(many.point(5))).all()


def test_products_are_symmetric_and_independent_of_place_and_company() -> None:
    rows = vectors(101, 70)
    order = np.random.default_rng(1).permutation(101)
    panels, moved, few = pack(rows), pack(rows[order]), pack(rows[:3])
    whole = panels.products(panels.points(range(101)))
    assert (whole == whole.T).all()
    assert (moved.products(moved.points(range(101))) == whole[order][:, order]).all()
    assert (few.products(few.points(range(3))) == whole[:3, :3]).all()
    assert (panels.self_products() == whole.diagonal()).all()


def test_zero_vectors_stay_zero_and_duplicates_are_at_distance_zero() -> None:
    rows = np.zeros((40, 5), np.float32)
    rows[7] = rows[33] = 3.0
    panels = pack(rows)
    assert (panels.normalised().points(range(7)) == 0).all()
    assert panels.squared_distances(panels.point(7))[33] == 0
    assert isinstance(panels.normalised(), Panels)


@pytest.mark.parametrize("size", [1, 31, 32, 33])
def test_centred_vectors_keep_their_differences_and_the_padding_stays_zero(size: int) -> None:
    rows = vectors(size, 5) + 7
    centred = pack(rows).centred()
    found = centred.points(range(size))[:, :5]
    np.testing.assert_allclose(found - found[0], rows - rows[0], atol=2e-6)
    assert np.abs(found.mean(axis=0)).max() < 0.5
    np.testing.assert_allclose(centred.total()[:5], found.sum(axis=0, dtype=np.float64), atol=1e-9)
