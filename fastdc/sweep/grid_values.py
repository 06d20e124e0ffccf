"""Split the values of a sweep's configuration: lists of names, ranges of numbers, settings by method."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MAX_SEEDS = 1000


def split_each(value: Any, split: Callable[[str], Iterable[Any]]) -> list[Any]:
    """Split each item of a list, or a single item, into parts; return every part once.

    Raises:
        ValueError: an item is neither a text nor a number.
    """
    items = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(item, bool) or not isinstance(item, str | int) for item in items):  # a bool is an int in Python
        raise ValueError("expected a list of names or numbers")
    flat = [part for item in items for part in split(str(item))]
    return list(dict.fromkeys(flat))  # a repeated value adds no run


def split_names(text: str) -> list[str]:
    """Split names at commas outside brackets: `"random,el2n[keep=hard,balanced=false]"` holds two names."""
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def split_protocols(text: str) -> list[str]:
    """Split protocol names: `"hard,hard*epochs=60,batch_size=32"` holds two.

    A `key=value` belongs to the name before it.
    """
    names: list[str] = []
    for part in split_names(text):
        if names and "=" in part and "*" not in part:
            names[-1] += f",{part}"
        else:
            names.append(part)
    return names


def expand_numbers(text: str) -> list[int]:
    """Expand numbers and ranges: `"0,3,5-7"` -> `[0, 3, 5, 6, 7]`.

    Raises:
        ValueError: a part is not a whole number, or a range runs backwards or exceeds `MAX_SEEDS`.
    """
    numbers: list[int] = []
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*([-+]?\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise ValueError(f"found '{part}', expected whole numbers such as 10,50 or a range such as 0-2")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first or last - first >= MAX_SEEDS:
            raise ValueError(f"range '{part}': expected first-last, at most {MAX_SEEDS} long")
        numbers.extend(range(first, last + 1))
    return numbers


def nest_settings(value: Any) -> Any:
    """Nest settings by method.

    `{"pca.grid": 3, "full": {"protocol.epochs": 4}}` -> `{"pca": {"grid": 3}, "full": {"protocol.epochs": 4}}`.

    Raises:
        ValueError: the value is not a mapping, a key names no method, or a setting is given twice.
    """
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping such as {pca.grid: 3}")
    nested: dict[str, dict[str, Any]] = {}
    for key, inner in value.items():
        for path, setting in _flatten(str(key), inner):
            method, dot, name = path.partition(".")
            if not dot or not name:
                raise ValueError(
                    f"found '{path}', expected METHOD.key (pca.grid=3) or METHOD.protocol.key (full.protocol.epochs=4)"
                )
            if name in nested.setdefault(method, {}):
                raise ValueError(f"'{path}' is given twice; keep one")
            nested[method][name] = setting
    return nested


def _flatten(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(path, value)]
    return [pair for key, inner in value.items() for pair in _flatten(f"{path}.{key}", inner)]
