"""Architecture names, checked without importing torch where that is possible."""

import re

from fastdc.errors import ConfigError
from fastdc.settings import closest

SMALL_ARCHS = ("convnet", "resnet18_small")
COMMON_ARCHS = {
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2", "mobilenet_v3_small"),
    *("mobilenet_v3_large", "efficientnet_b0", "swin_t", "vit_b_16", "vgg11", "vgg16", "alexnet", "densenet121"),
    *("shufflenet_v2_x1_0", "convnext_tiny"),
}
"""Names that every torchvision has: known without importing it, which takes three seconds."""
CONVNET_PATTERN = re.compile(r"convnet(?P<depth>[1-6])?(?:_w(?P<width>[1-9][0-9]{0,3}))?")


def is_own_arch(arch: str) -> bool:
    """Whether `arch` is one of fastdc's small-image networks."""
    return arch in SMALL_ARCHS or CONVNET_PATTERN.fullmatch(arch) is not None


def check_arch(arch: str) -> None:
    """Refuse an architecture that does not exist.

    Raises:
        ConfigError: with the closest known name.
    """
    if is_own_arch(arch) or arch in COMMON_ARCHS:
        return
    from torchvision import models

    known = models.list_models(module=models)
    if arch not in known:
        raise ConfigError(f"unknown architecture '{arch}'; {closest(arch, [*known, *SMALL_ARCHS])}")
