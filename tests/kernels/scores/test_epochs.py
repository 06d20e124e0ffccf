"""Aggregation over epochs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.kernels.scores import chunks
from fastdc.kernels.scores.epochs import forgetting_events, mean_over_epochs


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 50), st.data())
def test_equals_numpy_in_float64(epochs: int, samples: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, epochs - 1))
    stop = data.draw(st.integers(start + 1, epochs))
    values = np.random.default_rng(epochs * 100 + samples).random((epochs, samples), np.float32)
    expected = values[start:stop].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(mean_over_epochs(values, start, stop), expected, rtol=1e-14)


def test_sums_in_float64() -> None:
    values = np.array([[1e8], [1.0], [1.0]], np.float32)
    assert mean_over_epochs(values, 0, 3)[0] == (1e8 + 2) / 3


@pytest.mark.parametrize("window", [(0, 0), (2, 1), (-1, 2), (0, 4)])
def test_refuses_a_window_outside_the_log(window: tuple[int, int]) -> None:
    with pytest.raises(MethodError, match="the log holds 1 to 3"):
        mean_over_epochs(np.zeros((3, 2), np.float32), *window)


def test_names_the_sample_that_is_not_finite() -> None:
    values = np.zeros((3, 4), np.float32)
    values[1, 2] = np.nan
    with pytest.raises(MethodError, match="epoch 2, sample 2"):
        mean_over_epochs(values, 0, 3)
    assert mean_over_epochs(values, 2, 3).sum() == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 600), st.data())
def test_margins_give_forgetting(epochs: int, samples: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, epochs - 1))
    stop = data.draw(st.integers(start + 1, epochs))
    margins = np.random.default_rng(epochs * 100 + samples).integers(-2, 3, (epochs, samples)).astype(np.float32)
    found = forgetting_events(margins, start, stop)
    correct = margins[start:stop] > 0
    events = (correct[:-1] & ~correct[1:]).sum(axis=0)
    np.testing.assert_array_equal(found, np.where(correct.any(axis=0), events, stop - start))


def test_threads_and_chunks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).standard_normal((7, 70_000)).astype(np.float32)
    made = []
    for threads in (1, 5):
        monkeypatch.setattr(chunks, "usable_cpus", lambda count=threads: count)
        made.append((mean_over_epochs(values, 1, 6), forgetting_events(values, 1, 6)))
    np.testing.assert_array_equal(*made)
    assert mean_over_epochs(values[:, 66_000:66_001], 1, 6)[0] == mean_over_epochs(values, 1, 6)[66_000]


def test_margins_that_are_not_finite_are_named() -> None:
    margins = np.ones((4, 3), np.float32)
    margins[1, 2] = np.inf
    with pytest.raises(MethodError, match="epoch 2, sample 2"):
        forgetting_events(margins, 0, 4)
