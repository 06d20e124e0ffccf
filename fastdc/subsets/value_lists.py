"""Find the kept images in the values of a file: indices, a mask, ids, or the images of every class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import ConfigError, MethodError
from fastdc.subsets.stored_values import Vector, is_vector, shape_of
from fastdc.subsets.tables import Line

INDICES = "indices of images, int [M], as np.save(FILE, np.asarray(indices, np.int64)) writes them"
SCORE_ADVICE = "if these are scores, take fastdc compress from-scores, or NAME=scores:FILE[keep=easy] in a sweep"
NAMES = ("indices", "index", "idx", "coreset_index", "coreset", "selected", "kept", "ids", "paths")
"""Keys under which other programs keep the images of a subset."""


class ValueList(NamedTuple):
    """Images that a file of values names; see `fastdc.subsets.list_files.ListFile`."""

    lines: list[Line]
    indices: bool
    mask: int | None = None


def value_list(path: Path, value: Any) -> ValueList:
    """Return the images that a vector, or a mapping around one, names.

    A mapping holds the vector under a key of `NAMES`, directly or under `subset` as DeepCore's checkpoints do. Or its
    keys are classes, and its values vectors.

    Raises:
        ConfigError: there is no such vector.
        MethodError: an index is negative.
    """
    where = f"{path}"
    if isinstance(value, Mapping) and isinstance(value.get("subset"), Mapping):
        where, value = f"{path}: subset", value["subset"]
    name = next((name for name in NAMES if name in value), None) if isinstance(value, Mapping) else None
    if name is not None:
        return _vector_list(f"{where}: {name}", value[name])
    if isinstance(value, Mapping) and value and all(map(is_vector, value.values())):
        return _class_lists(path, value)
    return _vector_list(where, value)


def _class_lists(path: Path, value: Mapping[Any, Vector]) -> ValueList:
    """Return the images of a mapping of class -> vector."""
    parts = {str(label): _vector_list(f"{path}: {label}", vector) for label, vector in value.items()}
    if any(part.mask is not None for part in parts.values()):
        raise ConfigError(f"{path}: holds {shape_of(value)}, and one is a mask, expected one vector; {SCORE_ADVICE}")
    lines = [line._replace(label=label) for label, part in parts.items() for line in part.lines]
    return ValueList(lines, all(part.indices for part in parts.values()))


def _vector_list(where: str, value: Any) -> ValueList:
    if not is_vector(value):
        raise ConfigError(f"{where}: holds {shape_of(value)}, expected {INDICES}, a mask bool [N], or a list of ids")
    values: NDArray[Any] = np.asarray(value)
    if len(values) == 0:
        return ValueList([], True)
    if values.dtype.kind == "b":
        chosen = np.flatnonzero(values).tolist()
        return ValueList([Line(f"{where}[{place}]", str(place), None) for place in chosen], True, len(values))
    if values.dtype.kind == "f":
        raise ConfigError(f"{where}: holds {shape_of(values)}, expected {INDICES}; {SCORE_ADVICE}")
    if values.dtype.kind == "U":
        return ValueList([Line(f"{where}[{place}]", name, None) for place, name in enumerate(value)], False)
    negative = np.flatnonzero(values < 0)
    if negative.size:
        raise MethodError(f"{where}[{negative[0]}]: index {values[negative[0]]}, expected 0 or more")
    return ValueList([Line(f"{where}[{place}]", str(index), None) for place, index in enumerate(values.tolist())], True)
