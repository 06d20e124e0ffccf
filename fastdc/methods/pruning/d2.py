"""D2 pruning: difficulty, spread and damped along a nearest-neighbour graph (Maharana et al. 2024)."""

import math
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fastdc.methods.bases.feature_methods import FeatureMethod, GeometryConfig, Group, groups_of, per_group
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import Compressed, MethodContext
from fastdc.methods.bases.method_config import Keep
from fastdc.methods.bases.score_formulas import Difficulty
from fastdc.methods.bases.score_methods import difficulty_log, difficulty_scores
from fastdc.methods.bases.selection import kept_images

FLOOR = 1e-7
"""Smallest score that a message carries on the undirected graph; the official code's epsilon."""


class D2Config(GeometryConfig):
    """Settings of D2 pruning.

    The defaults are those of the published ImageNet command, which runs the code's graph mode.

    Attributes:
        score: score from which messages start, at the defaults of its own method. `aum_softmax` is the command's
            `accumulated_margin`: margins of probabilities over all epochs.
        keep: `easy` starts from the reversed difficulty, which is AUM as published. The command does so, because its
            graph mode takes AUM unchanged. `hard` starts from the difficulty, as the paper describes.
        start: `raw` takes the scores as they are; a negative score then sends 1e-7, as in the official code. `zero`
            shifts the scores so that the lowest of the remaining images is 0, as the official class mode does with AUM.
        neighbours: k of the nearest-neighbour graph, within the class or, with balanced=false, the whole set.
        graph: `undirected` joins two images if either is among the other's k nearest: the graph of the paper and the
            command. `directed` leads from each image only to its own k nearest, as the code does with stored graphs.
        gamma: how fast the reverse message fades with distance.
        mis_ratio: share of the whole set that is dropped first as mislabelled: the hardest by `mis_score`. A group
            always keeps as many images as its budget needs.
        mis_score: difficulty by which images are dropped.
        normalise: whether distances are between features scaled to unit length. The official code does not scale them.
        balanced: whether each class has its own graph and the same number of images. The command requests this, but
            its graph mode ignores it and chooses among all images (inferred). False does the same.
    """

    score: Difficulty = "aum_softmax"
    keep: Keep = "easy"
    start: Literal["raw", "zero"] = "raw"
    neighbours: int = Field(5, ge=1)
    graph: Literal["undirected", "directed"] = "undirected"
    gamma: float = Field(0.1, ge=0)
    mis_ratio: float = Field(0.4, ge=0, lt=1)
    mis_score: Difficulty = "aum_softmax"
    normalise: bool = False
    balanced: bool = Field(True, description="inferred")

    @model_validator(mode="after")
    def _mis_score_is_read(self) -> Self:
        self.refuse_unread({} if self.mis_ratio else {"mis_score": "with mis_ratio=0, which drops no image"})
        return self


class D2(FeatureMethod[D2Config]):
    r"""Choose images greedily by scores that pass between neighbours.

    Forward messages raise images with high-scoring neighbours. Each pick then lowers its neighbours, so that the choice
    spreads over the graph; see `message_order`. The features are the trained observer's penultimate ones.

    $$
    s_i \leftarrow s_i + \sum_{k \in N(i)} e^{-d_{ik}} s_k,
    \quad \text{after each pick } i: \; s_k \leftarrow s_k - e^{-\gamma d_{ik}} s_i
    $$

    Differences:
        * The published command asks for class balance, but its graph mode ignores it. Here each class has a graph of
          its own; `balanced=false` chooses as the command does.
        * The command's `--stratas 25` affects only a figure and is left out.
    """

    info = cited("d2", "D2 pruning", "pruning", "maharana2024d2", needs=("dynamics", "features"))
    version = 2  # 1: directed graph over normalised features, hard images first

    def shortest_log(self, config: D2Config) -> int:
        """Return EL2N's window if EL2N is one of the scores."""
        return difficulty_log(config.score, config.mis_score)

    def compress(self, context: MethodContext, config: D2Config, ipc: int, seed: int) -> Compressed:
        """Choose `ipc` images of every class (or ipc * classes of all), in order of choice."""
        budget = self.budget(context, config, ipc)
        hardness = initial_scores(context, config.mis_score)
        groups = without_hardest(
            groups_of(context, self.info.name, config.balanced), hardness, config.mis_ratio, budget
        )
        difficulty = hardness if config.score == config.mis_score else initial_scores(context, config.score)
        scores = starting_scores(difficulty, groups, config)
        chosen = np.concatenate(per_group(groups, lambda group: graph_choice(group, scores, config, budget)))
        return kept_images(context, chosen)


def initial_scores(context: MethodContext, name: Difficulty) -> NDArray[np.float64]:
    """Return the difficulty of every training image as method `name` scores it, float64 [N], high = hard."""
    return difficulty_scores("d2", name, context.observations)


def without_hardest(groups: list[Group], hardness: NDArray[np.float64], share: float, budget: int) -> list[Group]:
    """Drop the int(share * N) hardest of all N images; among equals, the higher index first.

    A group that would keep fewer than `budget` images keeps its `budget` easiest.

    Args:
        hardness: float64 [N], high = hard.
    """
    dropped = np.zeros(hardness.size, np.bool_)
    dropped[np.argsort(hardness, kind="stable")[hardness.size - int(share * hardness.size) :]] = True

    def left(members: NDArray[np.int64]) -> NDArray[np.int64]:
        easiest = members[np.argsort(hardness[members], kind="stable")]
        return np.sort(easiest[: max(budget, int((~dropped[members]).sum()))])

    return [replace(group, members=left(group.members)) for group in groups]


def starting_scores(difficulty: NDArray[np.float64], groups: list[Group], config: D2Config) -> NDArray[np.float64]:
    """Return the score of each image before messages, float64 [N], high = preferred."""
    scores = difficulty if config.keep == "hard" else -difficulty
    # The minimum is taken over the remaining images of all groups, not group by group.
    return scores - min(scores[group.members].min() for group in groups) if config.start == "zero" else scores


def graph_choice(group: Group, scores: NDArray[np.float64], config: D2Config, budget: int) -> NDArray[np.int64]:
    """Return the sample numbers of `budget` members of one group, in order of choice.

    Args:
        scores: float64 [N], of the whole set, high = preferred.
    """
    # Imported here because numba takes half a second to import.
    from fastdc.kernels.geometry.neighbours import message_order, nearest_neighbours, neighbour_graph

    features, directed = group.features(), config.graph == "directed"
    nearest = nearest_neighbours(features.normalised() if config.normalise else features, config.neighbours)
    floor = -math.inf if directed else FLOOR
    graph = neighbour_graph(*nearest, directed=directed)
    return group.members[message_order(graph, scores[group.members], config.gamma, budget, floor)]


METHOD = D2()
