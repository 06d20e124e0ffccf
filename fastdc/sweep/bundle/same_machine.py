"""List what differs between the machine and software of a run and those of its second training."""

import re
from collections.abc import Mapping
from typing import Any

from fastdc.common.errors import FastDCError
from fastdc.sweep.bundle.bundle_index import SubsetFacts

PLAIN = ("fastdc", "git", "python", "device", "device_name", "precision", "threads")
_CALLED = {"git": "fastdc's commit"}
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28}\b")
"""Commit, of which the first digits are shown."""


def machine_changes(then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """Return the differences of two records of `fastdc.sweep.provenance`, as texts such as "torch 2.6.0, now 2.7.0".

    Fields that the older record lacks are left out.
    """
    then = then or {}
    pairs = [(name, then[name], now.get(name)) for name in PLAIN if then.get(name) is not None and name in now]
    libraries = then.get("libraries") or {}
    current = now.get("libraries") or {}
    pairs += [(name, version, current.get(name)) for name, version in sorted(libraries.items())]
    return [f"{_CALLED.get(name, name)} {_shown(one)}, now {_shown(two)}" for name, one, two in pairs if one != two]


def _shown(value: Any) -> str:
    return "absent" if value is None else _HASH.sub(r"\1", str(value))


def method_change(facts: SubsetFacts | None) -> str | None:
    """Return how the method of a compressed set has changed since; None if it has not, or is not known."""
    from fastdc.methods import get_method

    if facts is None or facts.method is None:
        return None
    try:
        version = get_method(facts.method).version
    except FastDCError as error:
        return str(error)
    return None if version == facts.version else f"method {facts.method} version {facts.version}, now {version}"
