"""Define typed settings: frozen pydantic models whose errors are one line and name the closest valid key."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from fastdc.common.errors import ConfigError
from fastdc.common.plain_yaml import YamlFaultError, parse_yaml

LONGEST_RANGE = 1000


class Settings(BaseModel):
    """Base of every settings object: immutable, unknown keys refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def make(cls, values: Mapping[str, Any], where: str) -> Self:
        """Build the settings from plain values.

        Args:
            values: field name -> value; text such as "1e-3" is converted to the field's type.
            where: what the settings belong to, for the message ("protocol hard", "method pca").

        Raises:
            ConfigError: an unknown key (with the closest valid one) or a value out of range.
        """
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise ConfigError(f"{where}: unknown setting '{unknown[0]}'; {closest(unknown[0], cls.model_fields)}")
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {first_problem(error)}") from error

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse True where no bool is expected: pydantic would convert it to 1."""
        if isinstance(value, bool) and not _takes_bool(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("found yes or no, expected a value")
        return value

    def is_default(self, name: str) -> bool:
        """Return whether a setting has its default value."""
        return bool(getattr(self, name) == type(self).model_fields[name].default)


def _takes_bool(annotation: Any) -> bool:
    """Return whether an annotation, or a part of it as in `bool | None`, is bool or any type."""
    return not {bool, Any}.isdisjoint((annotation, *get_args(annotation)))


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a pydantic error as one line: field, value found, what was expected.

    A problem of several settings together has no field, so its message alone is returned.
    """
    problem = error.errors()[0]
    if not problem["loc"]:
        return problem["msg"].removeprefix("Value error, ")
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    found = problem["input"]
    shown = str(found).lower() if isinstance(found, bool) else repr(found)  # as it is written in YAML
    return f"{field}={shown}: {message[:1].lower()}{message[1:]}"


def closest(name: str, known: Iterable[str]) -> str:
    """Return help for an unknown name: the closest known one, if any, and the complete list."""
    names = sorted(known)
    if not names:
        return "there are none to choose from"
    matches = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{matches[0]}'? " if matches else ""
    return f"{hint}known: {', '.join(names)}"


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """Parse `["epochs=60", "flip=false"]` into `{"epochs": 60, "flip": False}`.

    Values are YAML scalars or lists; see `parse_scalar`.

    Raises:
        ConfigError: a pair lacks "=", a key is empty or repeated, or a value is not plain.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"setting '{pair}': expected key=value, for example epochs=60")
        if key.strip() in settings:
            raise ConfigError(f"setting '{key.strip()}': given twice; keep one")
        settings[key.strip()] = parse_scalar(text, key.strip())
    return settings


def merge_settings(what: str, own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the settings of `set` with those given on the spot, such as in the brackets of a variant.

    Args:
        what: owner of the settings, for the message.
        own: settings given on the spot.
        given: settings of `set`.

    Raises:
        ConfigError: both give the same setting different values.
    """
    for key in own:
        if key in given and given[key] != own[key]:
            raise ConfigError(f"{what}: {key}={own[key]} contradicts set {key}={given[key]}; keep one of them")
    return {**given, **own}


def parse_scalar(text: str, key: str) -> Any:
    """Parse a plain YAML value, a scalar or a list, by the rules of a sweep's file.

    Raises:
        ConfigError: `text` is not plain YAML, or is a mapping.
    """
    try:
        value, _ = parse_yaml(text)
    except YamlFaultError as fault:
        raise ConfigError(f"setting '{key}={text}': {fault}") from fault
    except yaml.YAMLError as error:
        raise ConfigError(f"setting '{key}={text}': not a plain value; quote it or simplify it") from error
    if isinstance(value, dict):
        raise ConfigError(f"setting '{key}={text}': found a mapping, expected a plain value")
    return value


def split_names(text: str) -> list[str]:
    """Split names at commas outside brackets: `"random,el2n[keep=hard,balanced=false]"` holds two names."""
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def split_floats(text: str, name: str) -> tuple[float, ...]:
    """Split numbers at commas: `"0.49,0.48,0.45"`.

    Args:
        text: the numbers.
        name: the setting, for the message.

    Raises:
        ConfigError: a part is not a finite number.
    """
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{name} {text!r}: expected a number, or one per channel such as 0.49,0.48,0.45")
    return numbers


def expand_numbers(text: str) -> list[int]:
    """Expand numbers and ranges: `"0,3,5-7"` -> `[0, 3, 5, 6, 7]`.

    Raises:
        ValueError: a part is not a whole number, or a range runs backwards or exceeds `LONGEST_RANGE`.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([-+]?\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise ValueError(f"found '{part}', expected whole numbers such as 10,50 or a range such as 0-2")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first or last - first >= LONGEST_RANGE:
            raise ValueError(f"range '{part}': expected first-last, at most {LONGEST_RANGE} long")
        numbers.extend(range(first, last + 1))
    return numbers
