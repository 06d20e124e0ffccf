"""Sliding windows over the log against numpy, for any threads and files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import MethodError
from fastdc.kernels.scores import chunks
from fastdc.kernels.scores import chunks as samples_module
from fastdc.kernels.scores.windows import cad_scores, tdds_scores, window_scores


def windows_of(values: np.ndarray, length: int) -> np.ndarray:
    """Return all windows, float64 [K, length, N]."""
    wide = values.astype(np.float64)
    return np.stack([wide[k : k + length] for k in range(len(wide) - length + 1)])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 25), st.integers(1, 600), st.data())
def test_dyn_unc_and_dual_equal_numpy(epochs: int, samples: int, data: st.DataObject) -> None:
    window = data.draw(st.integers(2, epochs))
    p_y = np.random.default_rng(epochs * 1000 + samples).random((epochs, samples), np.float32)
    found, laid = window_scores(p_y, window), windows_of(p_y, window)
    deviation = 10 * laid.std(axis=1, ddof=1)
    np.testing.assert_allclose(found.dyn_unc, deviation.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.dual, (deviation * (1 - laid.mean(axis=1))).mean(axis=0), rtol=1e-11)
    np.testing.assert_allclose(found.mean, p_y.astype(np.float64).mean(axis=0), rtol=1e-13)


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 25), st.integers(1, 300), st.data())
def test_tdds_and_cad_equal_numpy(epochs: int, samples: int, data: st.DataObject) -> None:
    window = data.draw(st.integers(3, epochs - 1))
    last = data.draw(st.integers(1, epochs - window + 1))
    decay = data.draw(st.sampled_from([0.1, 0.9, 1.0]))
    values = np.random.default_rng(epochs * 1000 + samples).random((epochs, samples), np.float32)
    cad = windows_of(values, window)[-last:].std(axis=1, ddof=1).mean(axis=0)
    np.testing.assert_allclose(cad_scores(values, window, last), cad, rtol=1e-12)
    if last <= epochs - window:
        earlier = windows_of(values[:-1], window)[-last:].std(axis=1, ddof=1).mean(axis=0)
        np.testing.assert_allclose(cad_scores(values, window, last, omit_last=True), earlier, rtol=1e-12)
    laid = windows_of(values, window - 1)  # `values` now are the steps of epochs + 1 epochs
    norms = np.linalg.norm(laid - laid.mean(axis=1, keepdims=True), axis=1)
    weights = decay * (1 - decay) ** (len(norms) - 1.0 - np.arange(len(norms)))
    np.testing.assert_allclose(tdds_scores(values, window, decay), weights @ norms, rtol=1e-11)


def test_no_rounding_builds_up() -> None:
    """A jump of 1 leaves the window: running sums would keep 1e-17, far above the later values."""
    p_y = np.full((40, 3), 1e-20)
    p_y[:5] = 1.0
    p_y[20:, 1] *= np.linspace(1, 2, 20)
    expected = windows_of(p_y, 10)[-2:].std(axis=1, ddof=1).mean(axis=0)
    np.testing.assert_allclose(cad_scores(p_y, 10, 2), expected, rtol=1e-12)
    assert cad_scores(p_y, 10, 2)[0] < 1e-33


def test_any_number_of_threads_and_chunks_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random((15, 70_000), np.float32)  # two chunks
    made = []
    for threads in (1, 4):
        monkeypatch.setattr(chunks, "usable_cpus", lambda count=threads: count)
        made.append((*window_scores(values), cad_scores(values), tdds_scores(values)))
    np.testing.assert_array_equal(*made)
    alone = window_scores(values[:, 300:301])
    assert [part[0] for part in alone] == [part[300] for part in made[0][:3]]


def test_a_field_of_a_mapped_log_equals_its_copy(tmp_path: Path) -> None:
    log = np.random.default_rng(2).random((12, 5, 1000), np.float32)
    log.tofile(tmp_path / "log")
    mapped = np.memmap(tmp_path / "log", "<f4", "r", shape=log.shape)
    for field in (0, 4):
        np.testing.assert_array_equal(window_scores(mapped[:, field]), window_scores(log[:, field].copy()))
    assert samples_module._mapping_of(samples_module.rows_of(mapped[:, 4]).line) is not None
    writable = np.memmap(tmp_path / "log", "<f4", "c", shape=log.shape)
    writable[0, 0, 0] = 0.5  # changed only in this process: dropping the page would lose it
    window_scores(writable[:, 0])
    assert writable[0, 0, 0] == 0.5


def test_odd_layouts_are_copied() -> None:
    values = np.random.default_rng(3).random((12, 30), np.float32)
    for view in (np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2], values[::-1][::-1]):
        np.testing.assert_array_equal(window_scores(view), window_scores(values))
    np.testing.assert_array_equal(window_scores(values[::-1]), window_scores(values[::-1].copy()))


def test_refuses_a_value_that_is_not_finite_only_where_it_reads() -> None:
    values = np.random.default_rng(4).random((12, 5)).astype(np.float32)
    values[3, 2] = np.nan
    with pytest.raises(MethodError, match="epoch 4, sample 2"):
        window_scores(values)
    with pytest.raises(MethodError, match="epoch 4, sample 2"):
        tdds_scores(values)
    assert np.isfinite(cad_scores(values)).all()  # reads the last 7 epochs
