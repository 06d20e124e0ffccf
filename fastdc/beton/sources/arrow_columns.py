"""Find the image and label columns of a parquet or Arrow shard, and the class names that its schema keeps."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastdc.beton.texts import one_spelling
from fastdc.common.errors import SourceError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("class_id", "label", "labels", "fine_label")


class Columns(NamedTuple):
    """Columns of a shard that hold images and labels.

    Attributes:
        image: name of the image column.
        leaf: path of the bytes: the column itself, or "image.bytes" for the hub's Image feature.
        label: name of the label column.
        pixels: whether images are nested lists of pixels, not the bytes of files.
        text: whether labels are names of classes, not numbers.
        names: the class names that the hub keeps for numbered labels; None if it keeps none.
    """

    image: str
    leaf: str
    label: str
    pixels: bool
    text: bool
    names: tuple[str, ...] | None


def find_columns(schema: Any, path: Path, image: str | None = None, label: str | None = None) -> Columns:
    """Return the image and the label column of a shard.

    Args:
        schema: the shard's Arrow schema. path: its file, for messages.
        image, label: names of the columns; None looks for `IMAGE_COLUMNS` and `LABEL_COLUMNS`.

    Raises:
        SourceError: a column is missing, repeated, or of another type.
    """
    from pyarrow import types

    image = find_column(schema.names, image, IMAGE_COLUMNS, "image", path)
    label = find_column(schema.names, label, LABEL_COLUMNS, "label", path)
    inside = [name for name in schema.names if name.startswith((f"{image}.", f"{label}."))]
    if inside:  # pyarrow selects columns by such dotted names, so it would read both
        raise SourceError(f"{path}: a column is called {inside[0]!r}, like a part of another; rename it")
    kind, label_kind = schema.field(image).type, schema.field(label).type
    inner = kind.field("bytes").type if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    pixels = _is_pixels(kind)
    if not pixels and not any(check(inner) for check in (types.is_binary, types.is_large_binary)):
        expected = "the bytes of image files (binary, or struct of bytes and path) or lists of pixels"
        raise SourceError(f"{path}: column {image!r} is {kind}, expected {expected}; choose with --image-column")
    if types.is_dictionary(label_kind):
        label_kind = label_kind.value_type
    text = types.is_string(label_kind) or types.is_large_string(label_kind)
    if not text and not types.is_integer(label_kind):
        expected = "integers or names of classes"
        raise SourceError(f"{path}: column {label!r} is {label_kind}, expected {expected}; choose with --label-column")
    leaf = image if inner is kind else f"{image}.bytes"
    return Columns(image, leaf, label, pixels, text, _hub_names(schema, path).get(label))


def _is_pixels(kind: Any) -> bool:
    """Return whether a column holds lists of lists (of lists) of whole numbers."""
    from pyarrow import types

    depth = 0
    while any(check(kind) for check in (types.is_list, types.is_large_list, types.is_fixed_size_list)):
        kind, depth = kind.value_type, depth + 1
    return depth in (2, 3) and types.is_integer(kind)


def find_column(columns: Sequence[str], chosen: str | None, names: Sequence[str], what: str, path: Path) -> str:
    """Return the chosen column, or else the first of the common `names` that is among the columns.

    Raises:
        SourceError: there is none, or it is repeated.
    """
    for name in names if chosen is None else (chosen,):
        count = columns.count(name)
        if count > 1:
            raise SourceError(f"{path}: {count} columns are called {name!r}, expected one")
        if count:
            return name
    listed = ", ".join(columns) or "none"
    if chosen is not None:
        raise SourceError(f"{path}: no column {chosen!r}, which --{what}-column names; it has {listed}")
    raise SourceError(
        f"{path}: no {what} column (known names: {', '.join(names)}); it has {listed}; choose with --{what}-column"
    )


def _hub_names(schema: Any, path: Path) -> dict[str, tuple[str, ...]]:
    """Return the class names of each ClassLabel column, from the JSON that `datasets` keeps in the schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return names_of_features(features)
    except (KeyError, TypeError, ValueError):
        return {}
    except RecursionError as error:
        raise SourceError(f"{path}: its huggingface metadata is nested too deeply; get the shard again") from error


def names_of_features(features: Any) -> dict[str, tuple[str, ...]]:
    """Return the class names of each ClassLabel among the features of a data set, as `datasets` writes them to JSON."""
    if not isinstance(features, dict):
        return {}
    labels = {name: feature.get("names") for name, feature in features.items() if isinstance(feature, dict)}
    return {
        name: tuple(one_spelling(str(each)) for each in names)
        for name, names in labels.items()
        if isinstance(names, list) and names
    }


def column_bytes(data: Any, leaf: str) -> int:
    """Return the uncompressed bytes of the column `leaf`, over all row groups; those of its inner lists count."""
    groups = (data.row_group(number) for number in range(data.num_row_groups))
    columns = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(
        column.total_uncompressed_size
        for column in columns
        if column.path_in_schema == leaf or column.path_in_schema.startswith(f"{leaf}.")
    )
