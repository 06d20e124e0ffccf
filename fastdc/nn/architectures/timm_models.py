"""Classifiers of timm, as `timm:NAME`."""

import difflib
from functools import partial
from typing import TYPE_CHECKING

from fastdc.common.errors import ConfigError
from fastdc.common.extras import install_extra
from fastdc.nn.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm:"
ARCHITECTURES = ()
"""Empty: timm has a thousand networks, which only `timm:NAME` names."""


def build(num_classes: int, image_size: int, name: str) -> "nn.Module":
    """Build the network that timm calls `name`; its shape does not depend on the side of the images."""
    import timm

    network: nn.Module = timm.create_model(name, num_classes=num_classes)
    return network


def describe(arch: str) -> Architecture:
    """Return the network `timm:NAME`; that timm has it is not checked."""
    return Architecture(arch, partial(build, name=arch.removeprefix(PREFIX)), title="timm's network of this name")


def check(arch: str) -> None:
    """Check that timm is installed and has a network.

    Raises:
        ConfigError: it is not, or has none of this name.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"{arch}: needs timm, which is not installed; {install_extra('teachers')}") from error
    name = arch.removeprefix(PREFIX)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"close ones: {', '.join(near)}" if near else "timm.list_models() in Python lists them"
        raise ConfigError(f"unknown architecture '{arch}': timm {timm.__version__} has none of that name; {hint}")
