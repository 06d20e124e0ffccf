"""Generate the table of a method's settings from its class of settings."""

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fastdc.methods import Method, MethodConfig

SIDES = (224, 64, 32)  # one of each preset
INFERRED = " \\*"
ATTRIBUTE = re.compile(r"^    (\w[\w, ]*): (.+(?:\n {8}.+)*)", re.MULTILINE)
KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}


def settings_table(method: Method) -> list[str]:
    """Return the settings of a method: type, default, meaning."""
    config = method.configure({})
    properties = type(config).model_json_schema()["properties"]
    rows = [
        [f"`{name}`", kind(properties[name]), default(method, config, name), meaning(type(config), name)]
        for name in type(config).model_fields
    ]
    inferred = any(INFERRED in row[2] for row in rows)
    note = ["", "\\* inferred: neither a paper nor a public script states it."] if inferred else []
    return [*table(["setting", "type", "default", "meaning"], rows), *note]


def default(method: Method, config: MethodConfig, name: str) -> str:
    """Return a default value, which may depend on the side of the stored images; inferred ones carry an asterisk."""
    value = getattr(config, name)
    recipe = getattr(method, "recipe", None)  # of methods that optimise images
    if value is not None or recipe is None or not hasattr(recipe(config, 224), name):
        return marked(value, name in method.inferred(config, SIDES[0]))
    numbers = [marked(getattr(recipe(config, side), name), name in method.inferred(config, side)) for side in SIDES]
    if len(set(numbers)) == 1:
        return numbers[0]
    lines = [f"{number} ({side} px)" for number, side in zip(numbers, SIDES, strict=True)]
    return "<br>".join(lines).replace(" ", "\u00a0")  # a narrow column would break after each word


def marked(value: Any, inferred: bool) -> str:
    """Return a value as settings are written, with an asterisk if it is inferred."""
    return f"`{written(value)}`" + (INFERRED if inferred else "")


def written(value: Any) -> str:
    """Return a value as `--set` takes it."""
    if isinstance(value, tuple):
        return "+".join(map(written, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def kind(schema: dict[str, Any]) -> str:
    """Return the type of a setting in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join("`null`" if part.get("type") == "null" else kind(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if schema["type"] == "array":
        return "names joined by `+`"
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    least = "" if low is None else f" ≥ {low}" if "minimum" in schema else f" > {low}"
    most = "" if high is None else f" ≤ {high}" if "maximum" in schema else f" < {high}"
    return KINDS[schema["type"]] + ",".join(filter(None, (least, most)))


def meaning(config: type[MethodConfig], name: str) -> str:
    """Return the meaning of a setting from the docstring of the class that documents it, the most derived first.

    Raises:
        LookupError: no class documents the setting.
    """
    docs = [inspect.cleandoc(vars(base).get("__doc__") or "") for base in config.__mro__]
    texts = [text for doc in docs for names, text in ATTRIBUTE.findall(doc) if name in names.split(", ")]
    if not texts:
        raise LookupError(f"{config.__name__}.{name}: found no line under Attributes:, expected its meaning")
    return " ".join(texts[0].split())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table, line by line."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
