"""Names of methods with settings: `el2n[keep=hard]`."""

import re
from collections.abc import Mapping
from typing import Any

from fastdc.common.errors import ConfigError
from fastdc.common.settings import parse_settings
from fastdc.methods.bases.method_config import plain_value

VARIANT_PATTERN = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<settings>[^\[\]]*)\])?")


def parse_variant(text: str) -> tuple[str, dict[str, Any]]:
    """Split the name of a variant into name and settings: `"el2n[keep=hard]"` -> `("el2n", {"keep": "hard"})`.

    Raises:
        ConfigError: the text has neither of the forms name and name[key=value,...].
    """
    match = VARIANT_PATTERN.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"method '{text}': expected name or name[key=value,key=value]")
    inside = match["settings"]
    return match["name"].strip(), parse_settings(inside.split(",")) if inside else {}


def variant_name(name: str, settings: Mapping[str, Any]) -> str:
    """Return the display name of a method under `settings`, keys sorted: `el2n[keep=hard]`, or just `el2n`."""
    if not settings:
        return name
    return f"{name}[{','.join(f'{key}={plain_value(settings[key])}' for key in sorted(settings))}]"
