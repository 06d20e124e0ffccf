"""ConvNet of the distillation literature, with BatchNorm in place of InstanceNorm, for images of 28 to 112 px.

Blocks of convolution, BatchNorm, ReLU and 2x2 max-pooling lead down to a map of 3 to 5 px. `convnet` has 128 channels,
`convnet_w32` has 32; `convnet4` has 4 blocks.
"""

import math
import re
from functools import partial
from typing import TYPE_CHECKING

from fastdc.common.errors import ConfigError
from fastdc.nn.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

PATTERN = re.compile(r"convnet(?P<depth>[1-6])?(?:_w(?P<width>[1-9][0-9]{0,3}))?")
WIDTH = 128
SMALLEST_MAP = 3


def convnet(num_classes: int, image_size: int, depth: int | None, width: int) -> "nn.Sequential":
    """Build the network.

    Args:
        depth: number of blocks, each of which halves the map; None continues down to a map of 3 to 5 px.
        width: channels of every block.

    Raises:
        ConfigError: the image is too small for `depth` halvings.
    """
    from torch import nn

    depth = depth or default_depth(image_size)
    side = image_size >> depth
    if side < 1:
        raise ConfigError(f"convnet{depth}: {image_size} px cannot be halved {depth} times; use fewer blocks")
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(depth):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, num_classes))


def default_depth(image_size: int) -> int:
    """Return the default number of blocks: as many halvings as lead to a map of 3 to 5 px."""
    return max(1, int(math.log2(image_size / SMALLEST_MAP)))


def _takes_side(depth: int | None, trained: int, side: int) -> bool:
    """Return whether two sides give one map size, the only one that the last layer fits."""
    depth = depth or default_depth(trained)
    return side >> depth == trained >> depth


def variant(name: str) -> Architecture | None:
    """Return the ConvNet that `name` stands for."""
    match = PATTERN.fullmatch(name)
    if match is None:
        return None
    depth, width = int(match["depth"]) if match["depth"] else None, int(match["width"] or WIDTH)
    return Architecture(
        name,
        partial(convnet, depth=depth, width=width),
        title="ConvNet with BatchNorm, for 28 to 112 px; convnet4_w32 has 4 blocks of 32 channels",
        sides=(28, 64, 112),
        takes_side=partial(_takes_side, depth),
        variant=variant,
    )


ARCHITECTURE = variant("convnet")
