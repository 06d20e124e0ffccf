"""Architecture names, checked without importing torch where possible."""

import difflib
import math
import re

from fastdc.common.errors import ConfigError
from fastdc.common.settings import closest

SMALL_ARCHS = ("convnet", "resnet10", "resnet18_small")
COMMON_ARCHS = {
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2", "mobilenet_v3_small"),
    *("mobilenet_v3_large", "efficientnet_b0", "swin_t", "vit_b_16", "vgg11", "vgg16", "alexnet", "densenet121"),
    *("shufflenet_v2_x1_0", "convnext_tiny"),
}
"""Names that every torchvision release has; accepted without importing it, which takes three seconds."""
CONVNET_SMALLEST_MAP = 3
TIMM_PREFIX = "timm:"
# Matched in full, so that vgg16_bn is not among them.
WITHOUT_BATCH_NORM = re.compile(r"alexnet|vgg\d+|vit_.*|swin_.*|convnext_.*|squeezenet.*")
CONVNET_PATTERN = re.compile(r"convnet(?P<depth>[1-6])?(?:_w(?P<width>[1-9][0-9]{0,3}))?")
RESNET10_PATTERN = re.compile(r"resnet10(?:_w(?P<width>[1-9][0-9]{0,3}))?")


def is_own_arch(arch: str) -> bool:
    """Return whether `arch` is one of fastdc's networks for small images."""
    return arch in SMALL_ARCHS or any(pattern.fullmatch(arch) for pattern in (CONVNET_PATTERN, RESNET10_PATTERN))


def check_arch(arch: str) -> None:
    """Check that an architecture exists.

    Raises:
        ConfigError: it is unknown, or needs timm, which is not installed. An unknown name gets the closest known one.
    """
    if is_own_arch(arch) or arch in COMMON_ARCHS:
        return
    if arch.startswith(TIMM_PREFIX):
        _check_timm(arch)
        return
    from torchvision import models

    known = models.list_models(module=models)
    if arch not in known:
        raise ConfigError(f"unknown architecture '{arch}'; {closest(arch, [*known, *SMALL_ARCHS])}")


def _check_timm(arch: str) -> None:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"{arch}: needs timm, which is not installed; pip install 'fastdc[teachers]'") from error
    name = arch.removeprefix(TIMM_PREFIX)
    if not timm.is_model(name):
        known = timm.list_models()
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"close ones: {', '.join(near)}" if near else "timm.list_models() in Python lists them"
        raise ConfigError(f"unknown architecture '{arch}': timm {timm.__version__} has none of that name; {hint}")


def lacks_batch_norm(arch: str) -> bool:
    """Return whether a network is known by its name to have no BatchNorm, without building it."""
    return WITHOUT_BATCH_NORM.fullmatch(arch) is not None


def no_batch_norm(name: str, arch: str) -> str:
    """Return the error message for a teacher without BatchNorm in a method that matches BatchNorm statistics."""
    return (
        f"teacher {name}: {arch} has no BatchNorm layers, whose running statistics this method matches; take a network "
        "with BatchNorm, for example resnet18 or mobilenet_v2"
    )


def takes_side(arch: str, trained: int, side: int) -> bool:
    """Return whether a network trained on images of `trained` pixels accepts images of `side` pixels.

    A convnet's last layer fits a single map size. The position table of torchvision's vision transformers fits a
    single number of patches.
    """
    match = CONVNET_PATTERN.fullmatch(arch)
    if match is None:
        return side == trained if arch.startswith("vit_") else True
    depth = int(match["depth"]) if match["depth"] else convnet_depth(trained)
    return side >> depth == trained >> depth


def convnet_depth(image_size: int) -> int:
    """Return the default number of a convnet's blocks: as many halvings as lead to a map of 3 to 5 px."""
    return max(1, int(math.log2(image_size / CONVNET_SMALLEST_MAP)))
