"""ResNet-10 (He et al. 2016, one basic block in each of four stages) for images of 28 to 112 px.

`resnet10` has 32 channels in its first stage and 1.2 million parameters; `resnet10_w64` has 64.
"""

import re
from functools import partial
from typing import TYPE_CHECKING

from fastdc.nn.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

PATTERN = re.compile(r"resnet10(?:_w(?P<width>[1-9][0-9]{0,3}))?")
WIDTH = 32
STAGES = 4


def resnet10(num_classes: int, image_size: int, width: int = WIDTH) -> "nn.Sequential":
    """Build the network; global average pooling accepts any side.

    The stem is a 3x3 convolution of stride 2. Images of 112 px therefore end in a 7 px map, as in ResNet-18 at 224 px.

    Args:
        width: channels of the first stage; each further stage doubles them.
    """
    from torch import nn

    stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    channels = width
    for stage in range(STAGES):
        layers.append(_block(channels, width << stage, 2 if stage else 1))
        channels = width << stage
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # as torchvision's ResNets do (He et al. 2015, fan-out)
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _block(channels: int, out: int, stride: int) -> "nn.Module":
    """Build a basic block; where the shape changes, its shortcut is a 1x1 convolution, as in torchvision's ResNets."""
    from torch import nn
    from torchvision.models.resnet import BasicBlock

    shortcut = None
    if stride > 1 or channels != out:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    return BasicBlock(channels, out, stride, shortcut)  # type: ignore[no-any-return]


def variant(name: str) -> Architecture | None:
    """Return the ResNet-10 that `name` stands for."""
    match = PATTERN.fullmatch(name)
    if match is None:
        return None
    return Architecture(
        name,
        partial(resnet10, width=int(match["width"] or WIDTH)),
        title="ResNet-10 for 28 to 112 px; resnet10_w64 has 64 channels in its first stage",
        sides=(28, 112),
        variant=variant,
    )


ARCHITECTURE = variant("resnet10")
