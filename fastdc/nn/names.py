"""Architecture names, checked without importing torch where that is possible."""

import re

from fastdc.errors import ConfigError
from fastdc.settings import closest

SMALL_ARCHS = ("convnet", "resnet18_small")
CONVNET_PATTERN = re.compile(r"convnet(?P<depth>[1-6])?(?:_w(?P<width>[1-9][0-9]{0,3}))?")


def is_own_arch(arch: str) -> bool:
    """Whether `arch` is one of fastdc's small-image networks."""
    return arch in SMALL_ARCHS or CONVNET_PATTERN.fullmatch(arch) is not None


def check_arch(arch: str) -> None:
    """Refuse an architecture that does not exist.

    Raises:
        ConfigError: with the closest known name.
    """
    if is_own_arch(arch):
        return
    from torchvision import models  # three seconds; only for names that are not fastdc's own

    known = models.list_models(module=models)
    if arch not in known:
        raise ConfigError(f"unknown architecture '{arch}'; {closest(arch, [*known, *SMALL_ARCHS])}")
