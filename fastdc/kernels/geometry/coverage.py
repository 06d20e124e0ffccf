"""Herding and k-center: greedy selection with one distance per sample and step, in O(n) memory beside the features."""

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError
from fastdc.kernels.geometry.products import Panels


def herding_order(panels: Panels, budget: int) -> NDArray[np.int64]:
    """Return samples whose running mean follows the mean of all, in order of choice.

    Source: Welling 2009; Rebuffi et al. 2017. Step s picks argmin over the remaining samples of
    ||mu - (sum of picked + phi_j) / (s + 1)||, the sample nearest to mu * (s + 1) - sum of picked. (DeepCore's code
    takes the argmax.) O(n D) per step, in float64.

    The code compares n times the squared distance, minus the part that all samples share. Without a division by n,
    rounding breaks no tie.

    Args:
        panels: features phi of n samples.
        budget: samples to choose, 1 to n.

    Returns:
        int64 [budget]; ties go to the lower index.

    Raises:
        MethodError: `budget` is out of range.
    """
    check_order_budget("herding", panels.size, budget)
    total = panels.total()
    picked_sum = np.zeros_like(total)
    squares = panels.size * panels.squared_norms()
    taken = np.zeros(panels.size, np.bool_)
    order = np.empty(budget, np.int64)
    for step in range(budget):
        distances = squares - 2.0 * panels.dots(total * (step + 1) - panels.size * picked_sum)
        distances[taken] = np.inf
        pick = int(distances.argmin())
        order[step], taken[pick] = pick, True
        picked_sum += panels.point(pick)
    return order


def k_center_order(panels: Panels, budget: int) -> NDArray[np.int64]:
    """Return samples by farthest-first traversal: each maximises the distance to its nearest pick.

    Source: Gonzalez 1985; Sener & Savarese 2018. The first pick is the sample nearest to the mean of all, so that the
    order depends only on the features. Published codes draw it at random. One running minimum per sample; distances in
    float64, O(n D) per step.

    Args:
        panels: features of n samples.
        budget: samples to choose, 1 to n.

    Returns:
        int64 [budget], in order of choice; ties go to the lower index. Duplicates of picks come last.

    Raises:
        MethodError: `budget` is out of range.
    """
    check_order_budget("k_center", panels.size, budget)
    order = np.empty(budget, np.int64)
    order[0] = int(panels.squared_distances(panels.total() / panels.size).argmin())
    nearest = panels.squared_distances(panels.point(int(order[0])))
    # -1 marks a pick: below every squared distance, it can never be the argmax again.
    nearest[order[0]] = -1.0
    for step in range(1, budget):
        pick = int(nearest.argmax())
        np.minimum(nearest, panels.squared_distances(panels.point(pick)), out=nearest)
        order[step], nearest[pick] = pick, -1.0
    return order


def check_order_budget(name: str, size: int, budget: int) -> None:
    """Check that `budget` is from 1 to `size`.

    Raises:
        MethodError: it is not; the message names the method, the budget and the size.
    """
    if not 1 <= budget <= size:
        raise MethodError(f"{name}: {budget} images requested, but the group has {size}; expected 1 to {size}")
