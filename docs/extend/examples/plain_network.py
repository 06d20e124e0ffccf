"""An architecture in a package of its own: three convolutions and global average pooling."""

from torch import nn

from fastdc.nn.architecture import Architecture


def plain(num_classes: int, image_size: int) -> nn.Module:
    """Build the network; it takes images of any side from 8 px on."""
    layers: list[nn.Module] = []
    channels = 3
    for out in (16, 32, 64):
        layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


ARCHITECTURE = Architecture("plain", plain, title="three convolutions, for images from 8 px on", sides=(8, 28))
