"""Architectures by name: the files of `fastdc.nn.architectures`, plug-ins, torchvision's and timm's.

Imports no torch, and torchvision or a plug-in only for a name that no file here knows.
"""

from functools import cache

from fastdc.common.errors import ConfigError
from fastdc.common.registry import Registry
from fastdc.common.settings import closest
from fastdc.nn.architecture import Architecture
from fastdc.nn.architectures import timm_models, torchvision_models
from fastdc.nn.architectures.timm_models import PREFIX as TIMM_PREFIX
from fastdc.nn.architectures.torchvision_models import COMMON_ARCHS

ENTRY_POINT_GROUP = "fastdc.architectures"


def _built_in() -> Registry[Architecture]:
    registry: Registry[Architecture] = Registry("architecture", Architecture, lambda arch: arch.name, ConfigError)
    registry.load_folder("fastdc.nn.architectures")
    return registry


@cache
def architectures(plugins: bool = True) -> Registry[Architecture]:
    """Return the architectures that fastdc names itself, and those of other packages.

    Args:
        plugins: whether to load other packages' architectures, which usually import torch.
    """
    registry = _built_in()
    if plugins:
        registry.load_plugins(ENTRY_POINT_GROUP)
    return registry


def _named(arch: str, registry: Registry[Architecture]) -> Architecture | None:
    """Return an architecture of a registry by its name, or by that of a member of its family."""
    if arch in registry.parts:
        return registry.parts[arch]
    members = (part.variant(arch) for part in registry.parts.values() if part.variant is not None)
    return next(filter(None, members), None)


def _listed(arch: str) -> Architecture | None:
    """Return an architecture that fastdc names itself, or a plug-in; None for any other name."""
    return _named(arch, architectures(plugins=False)) or _named(arch, architectures())


def find_arch(arch: str) -> Architecture:
    """Return the architecture of a name. Whether torchvision or timm has it is not checked; see `check_arch`."""
    if arch.startswith(TIMM_PREFIX):
        return timm_models.describe(arch)
    return _listed(arch) or torchvision_models.describe(arch)


def is_own_arch(arch: str) -> bool:
    """Return whether `arch` is one of fastdc's networks for small images, or a plug-in's: none of a library."""
    return not arch.startswith(TIMM_PREFIX) and arch not in COMMON_ARCHS and _listed(arch) is not None


def check_arch(arch: str) -> None:
    """Check that an architecture exists.

    Raises:
        ConfigError: it is unknown, or needs timm, which is not installed, or it is a plug-in that failed to load. An
            unknown name gets the closest known one.
    """
    if arch.startswith(TIMM_PREFIX):
        timm_models.check(arch)
        return
    if _listed(arch) is not None:
        return
    if arch in architectures().broken:
        architectures().get(arch)
    from torchvision import models

    known = models.list_models(module=models)
    if arch not in known:
        own = set(architectures().parts) - COMMON_ARCHS
        raise ConfigError(f"unknown architecture '{arch}'; {closest(arch, [*known, *own])}")


def lacks_batch_norm(arch: str) -> bool:
    """Return whether a network is known by its name to have no BatchNorm, without building it."""
    return not find_arch(arch).batch_norm


def no_batch_norm(name: str, arch: str) -> str:
    """Return the error message for a teacher without BatchNorm in a method that matches BatchNorm statistics."""
    return (
        f"teacher {name}: {arch} has no BatchNorm layers, whose running statistics this method matches; take a network "
        "with BatchNorm, for example resnet18 or mobilenet_v2"
    )


def takes_side(arch: str, trained: int, side: int) -> bool:
    """Return whether a network trained on images of `trained` pixels accepts images of `side` pixels."""
    return find_arch(arch).takes_side(trained, side)
