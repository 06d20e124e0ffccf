"""ResNet-18 for images of 28 to 64 px, with a 3x3 stride-1 stem and no max-pooling."""

from typing import TYPE_CHECKING

from fastdc.nn.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn


def resnet18_small(num_classes: int, image_size: int) -> "nn.Module":
    """Build the network; global average pooling accepts any side."""
    from torch import nn
    from torchvision import models

    model = models.resnet18(weights=None, num_classes=num_classes)
    # The new stem needs the initialisation that torchvision's constructor gave the old one.
    model.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model  # type: ignore[no-any-return]


ARCHITECTURE = Architecture(
    "resnet18_small", resnet18_small, title="ResNet-18 without its early downsampling, for 28 to 64 px", sides=(28, 64)
)
