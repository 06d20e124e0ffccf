"""The interface of an architecture: a name, a function that builds the network, and what is known without building it.

Imports no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def any_side(trained: int, side: int) -> bool:
    """Accept images of every side, as networks with global pooling do."""
    return True


def one_side(trained: int, side: int) -> bool:
    """Accept only images of the side on which the network was trained."""
    return side == trained


@dataclass(frozen=True)
class Architecture:
    """Architecture that `--arch` names. Results keep only its name: give a changed network another name.

    Attributes:
        name: lower-case letters, digits, - and _.
        build: function of the number of classes and the side of the images in pixels. It returns a network with fresh
            weights, drawn from torch's global generator, that maps float32 [B, 3, S, S] to logits [B, classes].
        title: one line for lists, with the source.
        batch_norm: whether the network has BatchNorm, which some distillation methods match.
        sides: sides in pixels at which `fastdc check` builds it; the first is the smallest that it is made for.
        takes_side: whether a network built for images of one side (first argument) accepts those of another (second).
        variant: function that returns another member of its family by its name, such as convnet4_w32 of convnet, or
            None for a name that it does not know.
    """

    name: str
    build: "Callable[[int, int], nn.Module]"
    title: str = ""
    batch_norm: bool = True
    sides: tuple[int, ...] = (32, 64)
    takes_side: Callable[[int, int], bool] = any_side
    variant: "Callable[[str], Architecture | None] | None" = None
