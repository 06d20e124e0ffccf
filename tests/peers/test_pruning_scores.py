"""Scores against those of the official codes on the same logits; see README.md."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastdc
from fastdc.kernels.scores.windows import tdds_scores
from fastdc.methods import get_method
from fastdc.methods.pruning.dual import beta_log_weights
from fastdc.observe.dynamics_log import TDDS_NAME, Observation
from fastdc.observe.tdds_log import TddsRecorder
from tests.methods.observed import observe_logits
from tests.peers.pruning_inputs import CLASSES, EPOCHS, NEVER_LEARNED, dynamics, network, official

LOGITS, LABELS = dynamics()
Log = Callable[[int], Observation]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log on disk of the first epochs; the last one is also the final pass."""
    runs = count()
    return lambda epochs: observe_logits(
        tmp_path / f"run{next(runs)}", LOGITS[:epochs], LABELS, np.zeros((LABELS.size, 1))
    )


def ours(observation: Observation, name: str, **settings: Any) -> np.ndarray:
    method: Any = get_method(name)
    return method.run_scores(observation, method.configure(settings))


def test_the_inputs_equal_those_of_the_official_codes() -> None:
    """A change of the formula would fail every test; this one names the reason."""
    assert LOGITS.shape == (EPOCHS, LABELS.size, CLASSES)
    assert float(LOGITS.astype(np.float64).sum()) == -212.13671875
    features, weights, bias, _ = network()
    assert [float(part.astype(np.float64).sum()) for part in (features, weights, bias)] == [
        80.140625,
        0.79296875,
        -0.421875,
    ]


def test_el2n(log: Log) -> None:
    """CCS's code sums ten epochs, ours averages them; DUAL's code takes a single one."""
    np.testing.assert_allclose(10 * ours(log(EPOCHS), "el2n"), official("ccs")["el2n"], rtol=2e-6)
    last = ours(log(EPOCHS), "el2n", first_epoch=EPOCHS, last_epoch=EPOCHS)
    np.testing.assert_allclose(last, official("dual")["el2n_last"], rtol=1e-5)
    np.testing.assert_allclose(fastdc.scores("el2n", LOGITS[-1:], LABELS), official("dual")["el2n_last"], rtol=1e-5)


@pytest.mark.parametrize("code", ["ccs", "deepcore", "dual"])
def test_forgetting(log: Log, code: str) -> None:
    """All three codes give 0 to what was never learned, as if never forgotten; ours gives it the number of epochs."""
    expected = np.array(official(code)["forgetting"])
    assert (expected[NEVER_LEARNED] == 0).all()
    expected[never_correct()] = EPOCHS
    assert ours(log(EPOCHS), "forgetting").tolist() == expected.tolist()
    assert fastdc.scores("forgetting", LOGITS, LABELS).tolist() == expected.tolist()


def never_correct() -> np.ndarray:
    return (LOGITS.argmax(axis=2) != LABELS).all(axis=0)


def test_aum(log: Log) -> None:
    """CCS sums margins of probabilities over the epochs, low = hard; ours is their mean, negated."""
    margin = np.array(official("ccs")["accumulated_margin"])
    np.testing.assert_allclose(-EPOCHS * ours(log(EPOCHS), "aum", softmax=True), margin, rtol=1e-5, atol=1e-5)


def test_tdds() -> None:
    """The code adds 1e-8 to probabilities before their logarithm; ours does not."""
    np.testing.assert_allclose(fastdc.scores("tdds", LOGITS, LABELS), official("tdds")["tdds"], rtol=1e-5)


def test_tdds_of_the_observers_record(tmp_path: Path) -> None:
    """The observer keeps the epoch before in 16 bits."""
    recorder = TddsRecorder(tmp_path, LABELS.size, CLASSES)
    for epoch in range(EPOCHS):
        recorder.batch(epoch, torch.from_numpy(LOGITS[epoch]), np.arange(LABELS.size))
        recorder.epoch_end(epoch)
    steps = np.fromfile(tmp_path / TDDS_NAME, "<f4").reshape(EPOCHS - 1, LABELS.size)
    np.testing.assert_allclose(tdds_scores(steps), official("tdds")["tdds"], rtol=2e-3)


def test_dyn_unc(log: Log) -> None:
    """The authors' ImageNet code leaves the last window out, so it is ours of one epoch less; DUAL's does not."""
    values = official("dyn_unc")
    scores = ours(log(EPOCHS - 1), "dyn_unc")
    np.testing.assert_allclose(scores, values["dyn_unc"], rtol=1e-5)
    labels = np.zeros(LABELS.size, np.int64)
    assert sorted(fastdc.select(scores, labels, ipc=12, keep="hard", balanced=False)) == values["kept"]
    np.testing.assert_allclose(ours(log(EPOCHS), "dyn_unc"), official("dual")["dyn_unc"], rtol=1e-5)


@pytest.mark.parametrize(("epochs", "window", "last"), [(8, 6, 2), (24, 6, 2), (24, 22, 2), (24, 4, 5)])
def test_cad_prune_by_el2n(log: Log, epochs: int, window: int, last: int) -> None:
    """A third party's reading of CAD-Prune: the window that ends with the last epoch is left out."""
    expected = official("ca2d")["cad"][f"{epochs}_{window}_{last}"]
    settings = {"reading": "el2n", "last_epoch": epochs, "window": window, "last_windows": last}
    np.testing.assert_allclose(ours(log(EPOCHS), "cad_prune", **settings), expected, rtol=1e-5, atol=1e-7)
    found = fastdc.scores("cad_prune_el2n", LOGITS[:epochs], LABELS, window=window, last_windows=last)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_dual(log: Log) -> None:
    np.testing.assert_allclose(ours(log(EPOCHS), "dual"), official("dual")["dual"], rtol=1e-5)


def test_dual_draws_with_the_same_probabilities(log: Log) -> None:
    """At a pruning rate of .75, from the code's own scores; ours are logarithms up to a constant."""
    expected = np.array(official("dual")["beta_probabilities"])
    mean_p = log(EPOCHS).field("p_y").mean(axis=0, dtype=np.float64)
    weights = np.exp(beta_log_weights(np.array(official("dual")["dual"]), mean_p, 0.75, 11))
    np.testing.assert_allclose(weights / weights.sum(), expected / expected.sum(), rtol=2e-4)


def test_entropy(log: Log) -> None:
    """The code adds 1e-10 to probabilities before their logarithm; ours does not."""
    np.testing.assert_allclose(ours(log(EPOCHS), "entropy"), official("dual")["entropy"], rtol=1e-5)


def network_logits() -> np.ndarray:
    features, weights, bias, _ = network()
    return (features @ weights.T + bias)[None]


@pytest.mark.parametrize(("name", "sign", "within"), [("entropy", -1, 2e-5), ("margin", 1, 2e-6)])
def test_uncertainty(tmp_path: Path, name: str, sign: int, within: float) -> None:
    """DeepCore ranks the least value first; entropy has 1e-6 in its logarithm. Its least confidence ranks logits."""
    features, *_, labels = network()
    observation = observe_logits(tmp_path / "run", network_logits(), labels, features)
    hardness = ours(observation, name)
    expected = sign * np.array(official("deepcore")[f"uncertainty_{name}"])
    np.testing.assert_allclose(hardness if name == "entropy" else 1 - hardness, expected, atol=within)


def test_grand(tmp_path: Path) -> None:
    """DeepCore's loss is a mean over its batch, of 60 here, so its gradients are a 60th of ours."""
    features, *_, labels = network()
    observation = observe_logits(tmp_path / "run", network_logits(), labels, features)
    expected = 60 * np.array(official("deepcore")["grand"])
    np.testing.assert_allclose(ours(observation, "grand"), expected, rtol=1e-4)
    np.testing.assert_allclose(fastdc.scores("grand", network_logits(), labels, features=features), expected, rtol=1e-4)
