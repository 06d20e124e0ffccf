"""Split the values of a sweep's configuration: lists of names, ranges of numbers, settings by method."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastdc.common.settings import split_names


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


def nest_settings(value: Any, external: Iterable[str] = ()) -> Any:
    """Nest settings by method or external set.

    `{"pca.grid": 3, "full": {"protocol.epochs": 4}}` -> `{"pca": {"grid": 3}, "full": {"protocol.epochs": 4}}`.

    Args:
        value: the settings; None for none.
        external: names of external sets, which may contain dots.

    Raises:
        ValueError: the value is not a mapping, a key names no method, or a setting is given twice.
    """
    value = {} if value is None else value  # a key of YAML without a value
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping such as {pca.grid: 3}")
    names = sorted(external, key=len, reverse=True)  # the longest first: of `a` and `a.b`, `a.b.fit` is of `a.b`
    nested: dict[str, dict[str, Any]] = {}
    for key, inner in value.items():
        for path, setting in _flatten(str(key), inner):
            own = next((each for each in names if path.startswith(f"{each}.")), path.partition(".")[0])
            method, dot, name = own, path[len(own) : len(own) + 1], path[len(own) + 1 :]
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
