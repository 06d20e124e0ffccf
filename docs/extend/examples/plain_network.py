"""A network for small images: three convolutions and global average pooling."""

from torch import nn


def plain_network(num_classes: int, width: int = 32) -> nn.Module:
    """Build the network with fresh weights; it takes images of any side from 8 px on."""
    layers: list[nn.Module] = []
    channels = 3
    for out in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
