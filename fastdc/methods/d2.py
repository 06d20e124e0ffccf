"""D2 pruning: difficulty, spread over and damped by a nearest-neighbour graph (Maharana et al. 2024)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods.base import Compressed, Keep, MethodConfig, MethodContext, MethodInfo
from fastdc.methods.geometry import FeatureMethod, GeometryConfig, Group, groups_of, per_group


class D2Config(GeometryConfig):
    """Settings of D2 pruning; defaults are those of the published ImageNet command.

    Attributes:
        score: difficulty that starts the messages, with its own method's defaults.
        keep: `hard` starts from the difficulty, as the paper does; `easy` from its reverse.
        neighbours: k of the nearest-neighbour graph, within the class or, with balanced=false, the whole set.
        gamma: how fast the reverse message fades with distance.
        mis_ratio: share of each group that is dropped first as mislabelled, the hardest by `score`; never more than
            the budget leaves over.
        normalise: distances between features of unit length. The paper does not say; penultimate features lie so far
            apart (10 to 30) that exp(-d) of their plain distances is 0 and no message arrives (inferred).
    """

    score: Literal["aum", "el2n", "forgetting"] = "aum"
    keep: Keep = "hard"
    neighbours: int = Field(5, ge=1)
    gamma: float = Field(0.1, ge=0)
    mis_ratio: float = Field(0.4, ge=0, lt=1)
    normalise: bool = Field(True, description="inferred")


class D2(FeatureMethod):
    """Forward messages raise images among hard neighbours; each pick lowers its neighbours (see `message_order`).

    Scores are shifted to start at 0 before messages are passed. (The official code negates AUM, so that its messages
    carry negative weights and a dense neighbourhood counts against an image.)
    """

    info = MethodInfo(
        name="d2",
        title="D2 pruning",
        family="pruning",
        paper="D2 Pruning: Message Passing for Balancing Diversity and Difficulty in Data Pruning",
        year=2024,
        bibtex=(
            "@inproceedings{maharana2024d2,\n"
            "  title={D2 Pruning: Message Passing for Balancing Diversity and Difficulty in Data Pruning},\n"
            "  author={Maharana, Adyasha and Yadav, Prateek and Bansal, Mohit},\n"
            "  booktitle={International Conference on Learning Representations},\n"
            "  year={2024}\n"
            "}"
        ),
        needs=("dynamics", "features"),
    )
    config_class = D2Config

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """`ipc` images of every class (or ipc * classes of all), in order of choice."""
        assert isinstance(config, D2Config)
        budget = self.budget(context, config, ipc)
        groups = groups_of(context, self.info.name, config.balanced)
        difficulty = initial_scores(context, config.score)
        parts = per_group(groups, lambda group: graph_choice(group, difficulty, config, budget))
        chosen = np.concatenate(parts)
        return Compressed(labels=context.labels[chosen], sources=chosen[:, None])


def initial_scores(context: MethodContext, name: str) -> NDArray[np.float64]:
    """Difficulty of every training image, float64 [N], high = hard, as the method called `name` scores it."""
    from fastdc.methods import get_method  # the registry imports this file

    method = get_method(name)
    found = method.scores(context, method.configure({}))
    assert found is not None, "the settings name methods that rank"
    return found


def graph_choice(group: Group, difficulty: NDArray[np.float64], config: D2Config, budget: int) -> NDArray[np.int64]:
    """Sample numbers of `budget` members of one group, in order of choice.

    Args:
        difficulty: float64 [N], of the whole set, high = hard.
    """
    from fastdc.kernels.neighbours import message_order, nearest_neighbours  # numba takes half a second to import

    kept = without_hardest(group, difficulty, config.mis_ratio, budget)
    scores = difficulty[kept.members]
    scores = scores - scores.min() if config.keep == "hard" else scores.max() - scores
    features = kept.features()
    graph = nearest_neighbours(features.normalised() if config.normalise else features, config.neighbours)
    return kept.members[message_order(*graph, scores, config.gamma, budget)]


def without_hardest(group: Group, difficulty: NDArray[np.float64], share: float, budget: int) -> Group:
    """The group without int(share * n) of its hardest members, of equal ones the higher index first; `budget` stay."""
    dropped = min(int(share * group.members.size), group.members.size - budget)
    easiest = np.argsort(difficulty[group.members], kind="stable")[: group.members.size - dropped]
    return Group(np.sort(group.members[easiest]), group.labels, group.final, group.workers)


METHOD = D2()
