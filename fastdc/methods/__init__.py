"""One file per method; `get_method("pca")` finds it. Importing this imports no torch."""

from functools import cache
from typing import TYPE_CHECKING

from fastdc.methods.base import (
    Compressed,
    Method,
    MethodConfig,
    MethodContext,
    MethodInfo,
    parse_variant,
    variant_name,
)
from fastdc.methods.selection import select

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
    from fastdc.methods.registry import load_registry

    return load_registry()


def all_methods() -> dict[str, Method]:
    """Every usable method by name, in alphabetical order with `full` and `random` first."""
    methods = _registry().methods
    first = [name for name in ("full", "random") if name in methods]
    return {name: methods[name] for name in first + sorted(set(methods) - set(first))}


def broken_methods() -> dict[str, str]:
    """Plug-ins that cannot be used, with the reason."""
    return dict(_registry().broken)


def get_method(name: str) -> Method:
    """The method called `name`.

    Raises:
        MethodError: there is none (with the closest name), or it is broken (with the reason).
    """
    return _registry().get(name)
