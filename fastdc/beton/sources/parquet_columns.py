"""Find the image and label columns of a parquet shard, and the class names that the Hugging Face hub keeps in it."""

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
        text: whether labels are names of classes, not numbers.
        names: the class names that the hub keeps for numbered labels; None if it keeps none.
    """

    image: str
    leaf: str
    label: str
    text: bool
    names: tuple[str, ...] | None


def find_columns(schema: Any, path: Path) -> Columns:
    """Return the image and the label column of a shard.

    Args:
        schema: the shard's Arrow schema. path: its file, for messages.

    Raises:
        SourceError: a column is missing, repeated, or of another type.
    """
    from pyarrow import types

    image = _find_column(schema, IMAGE_COLUMNS, "image", path)
    label = _find_column(schema, LABEL_COLUMNS, "label", path)
    inside = [name for name in schema.names if name.startswith((f"{image}.", f"{label}."))]
    if inside:  # pyarrow selects columns by such dotted names, so it would read both
        raise SourceError(f"{path}: a column is called {inside[0]!r}, like a part of another; rename it")
    kind, label_kind = schema.field(image).type, schema.field(label).type
    inner = kind.field("bytes").type if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not any(check(inner) for check in (types.is_binary, types.is_large_binary)):
        expected = "the bytes of image files (binary, or struct of bytes and path)"
        raise SourceError(f"{path}: column {image!r} is {kind}, expected {expected}")
    if types.is_dictionary(label_kind):
        label_kind = label_kind.value_type
    text = types.is_string(label_kind) or types.is_large_string(label_kind)
    if not text and not types.is_integer(label_kind):
        raise SourceError(f"{path}: column {label!r} is {label_kind}, expected integers or names of classes")
    return Columns(
        image, image if inner is kind else f"{image}.bytes", label, text, _hub_names(schema, path).get(label)
    )


def _find_column(schema: Any, names: Sequence[str], what: str, path: Path) -> str:
    for name in names:
        count = schema.names.count(name)
        if count > 1:
            raise SourceError(f"{path}: {count} columns are called {name!r}, expected one")
        if count:
            return name
    raise SourceError(f"{path}: no {what} column ({' or '.join(names)}); it has {', '.join(schema.names) or 'none'}")


def _hub_names(schema: Any, path: Path) -> dict[str, tuple[str, ...]]:
    """Return the class names of each ClassLabel column, from the JSON that `datasets` keeps in the schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        labels = {name: feature.get("names") for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
    except RecursionError as error:
        raise SourceError(f"{path}: its huggingface metadata is nested too deeply; get the shard again") from error
    return {
        name: tuple(one_spelling(str(each)) for each in names)
        for name, names in labels.items()
        if isinstance(names, list) and names
    }


def column_bytes(data: Any, leaf: str) -> int:
    """Return the uncompressed bytes of the column `leaf`, over all row groups."""
    groups = (data.row_group(number) for number in range(data.num_row_groups))
    columns = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == leaf)
