"""GradMatch: orthogonal matching pursuit with non-negative weights, using only inner products."""

import math

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError
from fastdc.kernels.core.jit import kernel
from fastdc.kernels.geometry.coverage import check_order_budget
from fastdc.kernels.geometry.similarity import BLOCK, Similarity


def matching_order(products: Similarity, ridge: float, budget: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose samples whose weighted gradients sum to the mean gradient (GRAD-MATCH, algorithm 2).

    Source: Killamsetty et al. 2021. Minimises ||mean g - sum w_j g_j||^2 + ridge ||w||^2 over w >= 0 with `budget`
    non-zero weights, greedily. Each step picks the remaining sample whose gradient has the largest inner product with
    the residual, then refits all weights. A step is taken even if no product is positive, so that the budget is met
    exactly.

    Everything is computed from inner products G = g g^T.
    The residual's product with g_j is (mean of G)_j - sum w_s G_sj.

    Args:
        products: inner products of n gradients.
        ridge: above 0; DeepCore's lambda.
        budget: samples to choose, 1 to n.

    Returns:
        (int64 [budget] in order of choice, ties to the lower index; float64 [budget] their weights, some may be 0).
        Memory is O(n * budget).

    Raises:
        MethodError: `budget` is out of range, or `ridge` is so small that the rounding of the products makes the
            system indefinite.
    """
    check_order_budget("gradmatch", products.size, budget)
    target = _mean_row(products)
    chosen = np.empty((budget, products.size), np.float32)
    order, weights = np.empty(budget, np.int64), np.zeros(budget)
    taken = np.zeros(products.size, np.bool_)
    for step in range(budget):
        gains = residual_products(target, chosen[:step], weights[:step])
        gains[taken] = -np.inf
        pick = int(gains.argmax())
        order[step], taken[pick] = pick, True
        chosen[step] = products.rows(range(pick, pick + 1))[0]
        picks = order[: step + 1]
        system = chosen[: step + 1][:, picks].astype(np.float64)
        # A stride of step + 2 over the flat [step + 1, step + 1] matrix walks its diagonal.
        system.flat[:: step + 2] += ridge
        nonnegative_solve(system, target[picks], weights[: step + 1])
        _check_weights(weights, ridge)
    return order, weights


def _check_weights(weights: NDArray[np.float64], ridge: float) -> None:
    """Reject weights that are not finite: float32 rounding made their system indefinite."""
    if not np.isfinite(weights).all():
        raise MethodError(
            f"gradmatch: ridge={ridge:g} is lost in the rounding of the gradients' float32 products; raise ridge"
        )


def _mean_row(products: Similarity) -> NDArray[np.float64]:
    """Return the inner product of every gradient with the mean gradient, float64 [n]."""
    total = np.zeros(products.size)
    for start in range(0, products.size, BLOCK):
        for row in products.rows(range(start, min(start + BLOCK, products.size))):
            total += row
    return total / products.size


@kernel
def residual_products(
    target: NDArray[np.float64], rows: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return target - sum over s of weights[s] * rows[s], in float64."""
    out = target.copy()
    for s in range(weights.size):
        weight = weights[s]
        if weight != 0.0:
            for j in range(out.size):
                out[j] -= weight * rows[s, j]
    return out


@kernel
def nonnegative_solve(system: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
    """Minimise w.A.w / 2 - b.w over w >= 0 by Lawson and Hanson's active sets, from a warm start.

    Args:
        system: A, symmetric positive definite, float64 [m, m].
        target: b, float64 [m].
        weights: [m], in: the solution for the leading part, 0 for new entries; out: the solution.
    """
    size = target.size
    passive = weights > 0.0
    tolerance = 1e-12 * max(np.abs(target).max(), 1e-300)
    # The bound only guards against cycling through rounding; Lawson and Hanson use 3 n.
    for _ in range(3 * size + 10):
        slopes = target - _times(system, weights)
        best = -1
        for j in range(size):
            if not passive[j] and slopes[j] > tolerance and (best < 0 or slopes[j] > slopes[best]):
                best = j
        if best < 0:
            return
        passive[best] = True
        _descend(system, target, weights, passive)


@kernel
def _descend(
    system: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64], passive: NDArray[np.bool_]
) -> None:
    """Move to the minimum over the passive weights, dropping those that would turn negative on the way."""
    while True:
        # Go towards the unconstrained solution until the first weight would turn negative; that one leaves the set.
        members = np.flatnonzero(passive)
        solution = cholesky_solve(system, target, members)
        share, blocking = 1.0, -1
        for i in range(members.size):
            if solution[i] <= 0.0:
                own = weights[members[i]]
                reach = own / (own - solution[i]) if own > 0.0 else 0.0
                if reach < share or blocking < 0:
                    share, blocking = reach, i
        for i in range(members.size):
            own = weights[members[i]]
            weights[members[i]] = max(own + share * (solution[i] - own), 0.0)
        if blocking < 0:
            return
        weights[members[blocking]] = 0.0
        passive[members[blocking]] = False
        if not passive.any():
            return


@kernel
def _times(system: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return A w, each sum in index order."""
    out = np.zeros(weights.size)
    for j in range(weights.size):
        if weights[j] != 0.0:
            for i in range(weights.size):
                out[i] += system[j, i] * weights[j]
    return out


@kernel
def cholesky_solve(
    system: NDArray[np.float64], target: NDArray[np.float64], members: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the solution, float64 [k], of A x = b restricted to `members`; A must be positive definite."""
    size = members.size
    lower = np.zeros((size, size))
    out = np.empty(size)
    for i in range(size):
        for j in range(i + 1):
            value = system[members[i], members[j]]
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            lower[i, j] = math.sqrt(value) if i == j else value / lower[j, j]
        # Forward substitution runs in the same loop as the factorisation.
        value = target[members[i]]
        for k in range(i):
            value -= lower[i, k] * out[k]
        out[i] = value / lower[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            out[i] -= lower[k, i] * out[k]
        out[i] /= lower[i, i]
    return out
