"""Compression methods, one file each; `get_method("pca")` returns one by name.

Importing this package does not import torch.
"""

from functools import cache
from typing import TYPE_CHECKING

from fastdc.methods.bases.method import Compressed, Method, MethodContext
from fastdc.methods.bases.method_config import MethodConfig
from fastdc.methods.bases.method_info import MethodInfo
from fastdc.methods.bases.selection import select
from fastdc.methods.bases.variants import parse_variant, variant_name

if TYPE_CHECKING:
    from fastdc.methods.registry import Registry

__all__ = [
    "Compressed",
    "Method",
    "MethodConfig",
    "MethodContext",
    "MethodInfo",
    "all_methods",
    "broken_methods",
    "get_method",
    "parse_variant",
    "select",
    "variant_name",
]


@cache
def _registry() -> "Registry":
    # The registry imports every method file and plug-in, so it waits for the first lookup.
    from fastdc.methods.registry import load_registry

    return load_registry()


def all_methods() -> dict[str, Method]:
    """Return every usable method by name, in alphabetical order after `full` and `random`."""
    methods = _registry().methods
    first = [name for name in ("full", "random") if name in methods]
    return {name: methods[name] for name in first + sorted(set(methods) - set(first))}


def broken_methods() -> dict[str, str]:
    """Return the plug-ins that failed to load, each with the reason."""
    return dict(_registry().broken)


def get_method(name: str) -> Method:
    """Return the method called `name`.

    Raises:
        MethodError: no method has this name (the message suggests the closest one), or the method is left out or
            broken (the message gives the reason).
    """
    return _registry().get(name)
