"""Choices against those of the official codes on the same features and scores; see README.md."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastdc.kernels.geometry.neighbours import message_order, nearest_neighbours, neighbour_graph
from fastdc.kernels.geometry.products import pack
from fastdc.methods import MethodContext, get_method
from fastdc.methods.pruning.ccs import strata_of
from fastdc.methods.pruning.d2 import FLOOR
from tests.methods.final_pass import context_of
from tests.peers.pruning_inputs import bell, demand_series, many_scores, network, official

FEATURES, WEIGHTS, BIAS, LABELS = network()
MARGINS = bell(9, 60, steps=4096) * 12 + 6
"""Accumulated margins for D2, most above 0."""


def context() -> MethodContext:
    """Return a context with the linear network's final pass."""
    powers = np.exp((FEATURES @ WEIGHTS.T + BIAS).astype(np.float64))
    return context_of(LABELS, FEATURES, powers / powers.sum(axis=1, keepdims=True), np.zeros((12, 60)), 3)


def deepcore(name: str) -> list[int]:
    """Return DeepCore's choice, class by class, in order of choice."""
    return [sample for order in official("deepcore")[name] for sample in order]


def chosen(name: str, ipc: int, known: MethodContext, **settings: Any) -> list[int]:
    method = get_method(name)
    return method.compress(known, method.configure(settings), ipc, 0).sources[:, 0].tolist()


@pytest.mark.parametrize("name", ["facility_location", "graph_cut", "craig", "herding", "k_center"])
def test_deepcore_chooses_the_same_in_the_same_order(name: str) -> None:
    """Herding with the sign of DeepCore's metric turned; k-center from our start; see README.md."""
    assert chosen(name, 8, context()) == deepcore(name)


def test_r_cad_chooses_the_same_in_the_same_order() -> None:
    values, method = official("ca2d"), get_method("r_cad")
    known = context_of(LABELS, FEATURES, np.ones((60, 3)), demand_series(), 3)
    np.testing.assert_allclose(method.scores(known, method.configure({})), values["weights"], rtol=1e-5)
    assert chosen("r_cad", 8, known) == [sample for order in values["orders"]["el2n"] for sample in order]
    alike, tied = replace(known, scores=np.full(60, 0.3)), {11: 8}  # these two cover only each other; float32 decided
    expected = [tied.get(sample, sample) for order in values["orders"]["uniform"] for sample in order]
    assert chosen("r_cad", 8, alike) == expected


def test_gradmatch() -> None:
    """DeepCore's first residual leaves its lambda out, so a small one is compared; see README.md."""
    assert chosen("gradmatch", 8, context(), ridge=0.01) == deepcore("gradmatch")


def test_moderate() -> None:
    """The code's band is one of all images; distances are from each class's own median in both."""
    values, method = official("moderate"), get_method("moderate")
    config = method.configure({"balanced": False})
    np.testing.assert_allclose(method.scores(context(), config), values["distance"], rtol=1e-6)
    assert sorted(chosen("moderate", 8, context(), balanced=False)) == values["kept"]


def observed(margins: np.ndarray, features: np.ndarray, labels: np.ndarray) -> MethodContext:
    """Return a context with `margins` as AUM of probabilities."""
    classes = int(labels.max()) + 1
    made = context_of(labels, features, np.ones((labels.size, classes)), np.zeros((12, labels.size)), classes)
    log: Any = made.observations[0]
    log.log["p_y"][:] = margins
    return made


@pytest.mark.parametrize("seed", [7, 8])
def test_ccs_drops_and_covers(seed: int) -> None:
    """The code leaves to chance which of two equal strata gives more, so pairs of size and number are compared."""
    values, margins = official("ccs"), many_scores(seed)
    known = observed(margins, np.zeros((400, 1)), np.zeros(400, np.int64))
    kept = chosen("ccs", 100, known, score="aum_softmax", beta=0.3, balanced=False)
    left = np.setdiff1d(np.arange(400), values[f"dropped_{seed}"])
    assert set(kept) <= set(left.tolist())
    stratum = np.full(400, -1)
    stratum[left] = strata_of(margins[left].astype(np.float64), 50)
    sizes = np.bincount(stratum[left], minlength=50).tolist()
    assert sizes == values[f"sizes_{seed}"]
    found = np.bincount(stratum[kept], minlength=50).tolist()
    assert sorted(zip(sizes, found, strict=True)) == sorted(zip(sizes, values[f"chosen_{seed}"], strict=True))


def d2_order(
    rows: np.ndarray, scores: np.ndarray, count: int, gamma: float, budget: int, directed: bool = False
) -> list[int]:
    graph = neighbour_graph(*nearest_neighbours(pack(rows.astype(np.float32)), count), directed=directed)
    return message_order(graph, scores, gamma, budget, -np.inf if directed else FLOOR).tolist()


def test_d2_on_a_line() -> None:
    rows, scores = np.array([[0.0], [0.1], [0.3]]), np.array([0.5, 1.0, 0.9])
    assert d2_order(rows, scores, 1, 0.1, 3) == official("d2")["line"] == [1, 2, 0]


@pytest.mark.parametrize("label", range(3))
def test_d2_orders_a_class(label: int) -> None:
    members = np.flatnonzero(label == LABELS)
    found = d2_order(FEATURES[members] / 4, MARGINS[members], 5, 0.1, 12)
    assert members[found].tolist() == official("d2")[f"class_{label}"]


def test_d2_orders_the_whole_set() -> None:
    assert d2_order(FEATURES / 4, MARGINS, 5, 0.1, 24) == official("d2")["whole"]
    assert d2_order(FEATURES / 4, np.abs(MARGINS), 3, 1.0, 24) == official("d2")["whole_strong"]


def test_d2_orders_by_stored_neighbours() -> None:
    """The code's path for stored neighbours walks their directed graph, and lets negative scores pass."""
    assert d2_order(FEATURES / 4, MARGINS, 5, 0.1, 24, directed=True) == official("d2")["directed"]


KNOWN = observed(MARGINS, FEATURES / 4, LABELS)


def test_d2_defaults_are_the_published_command() -> None:
    """`select_coreset` with its settings keeps 12 of all; its graph mode ignores --label-balanced."""
    assert sorted(chosen("d2", 4, KNOWN, balanced=False)) == official("d2")["command"]


def test_d2_class_mode() -> None:
    """The code's class mode shifts AUM to start at 0 and walks each class's own graph."""
    assert sorted(chosen("d2", 4, KNOWN, start="zero")) == official("d2")["class_mode"]
