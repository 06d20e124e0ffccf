"""Residual networks for small images: ResNet-18 without its early downsampling, and a ResNet-10 of any width."""

from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock

RESNET10_WIDTH = 32
STAGES = 4


def resnet18_small(num_classes: int) -> nn.Module:
    """Build ResNet-18 for small images, with a 3x3 stride-1 stem and no max-pooling."""
    model = models.resnet18(weights=None, num_classes=num_classes)
    # The new stem needs the initialisation that torchvision's constructor gave the old one.
    model.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model  # type: ignore[no-any-return]


def resnet10(num_classes: int, width: int = RESNET10_WIDTH) -> nn.Sequential:
    """Build a ResNet-10 (He et al. 2016, one basic block in each of four stages) for images of 28 to 112 px.

    The stem is a 3x3 convolution of stride 2. Images of 112 px therefore end in a 7 px map, as in ResNet-18 at 224 px.
    Global average pooling accepts any side. Width 32 has 1.2 million parameters.

    Args:
        width: channels of the first stage; each further stage doubles them.
    """
    stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    channels = width
    for stage in range(STAGES):
        layers.append(_block(channels, width << stage, 2 if stage else 1))
        channels = width << stage
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    _initialise(network)
    return network


def _block(channels: int, out: int, stride: int) -> nn.Module:
    """Build a basic block; where the shape changes, its shortcut is a 1x1 convolution, as in torchvision's ResNets."""
    shortcut = None
    if stride > 1 or channels != out:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    return BasicBlock(channels, out, stride, shortcut)  # type: ignore[no-any-return]


def _initialise(network: nn.Module) -> None:
    """Initialise convolutions as torchvision's ResNets do (He et al. 2015, fan-out)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
