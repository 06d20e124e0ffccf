"""Read YAML text without its traps: plain values, each with its line.

Duplicate keys, anchors and aliases (alias bombs), tags (Python objects) and deep nesting are refused. By the rules of
YAML 1.2 `no`, `12:30` and dates stay text, `010` is 10, and `1e-3` is a number.
"""

import math
import re
from typing import Any

import yaml

MAX_DEPTH = 12
Location = tuple[str | int, ...]


class YamlFaultError(Exception):
    """YAML that is refused, in the line `line`."""

    def __init__(self, message: str, mark: yaml.Mark) -> None:
        super().__init__(message)
        self.line = mark.line + 1


class _Loader(yaml.SafeLoader):
    """SafeLoader with the plain scalars of YAML 1.2; `depth` is the nesting of the node that is being composed."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (overrides PyYAML's)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YamlFaultError("anchors and aliases (& and *) are not allowed; write the value out", event.start_mark)
        if getattr(event, "tag", None):
            raise YamlFaultError(f"tag '{event.tag}' is not allowed; only plain values are", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise YamlFaultError(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


# PyYAML follows YAML 1.1, which reads `no` as a bool, `010` as octal, `12:30` as base 60 and `1e-3` as text.
# The last column lists the first characters that a match can have.
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("tag:yaml.org,2002:float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("tag:yaml.org,2002:float", r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))", list("-+.")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


def parse_yaml(text: str) -> tuple[Any, dict[Location, int]]:
    """Return the plain value of a document, and the line (counted from 1) of every key and list item by its path.

    Raises:
        YamlFaultError: the text is YAML that is refused.
        yaml.YAMLError: it is no YAML.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    lines: dict[Location, int] = {}
    return None if node is None else _plain(node, (), lines), lines


def _plain(node: yaml.Node, location: Location, lines: dict[Location, int]) -> Any:
    lines[location] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*location, index), lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, location, lines)
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node)


def _mapping(node: yaml.MappingNode, location: Location, lines: dict[Location, int]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlFaultError("a key must be plain text", key_node.start_mark)
        key = key_node.value
        if key in values:
            first = lines[(*location, key)]
            raise YamlFaultError(f"key '{key}' is given twice (first in line {first}); keep one", key_node.start_mark)
        values[key] = _plain(value_node, (*location, key), lines)
        lines[(*location, key)] = key_node.start_mark.line + 1  # the key's line replaces that of its value
    return values


def _scalar(node: yaml.ScalarNode) -> Any:
    kind = node.tag.rpartition(":")[2]
    text = str(node.value)
    if kind in ("int", "float") and len(text) > 40:  # Python takes long to read, or refuses, thousands of digits
        raise YamlFaultError(f"number '{text[:20]}...' has {len(text)} digits", node.start_mark)
    if kind == "int":
        return int(text)
    if kind == "float":
        value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(value):
            raise YamlFaultError(f"{text} is not a usable number", node.start_mark)
        return value
    if kind == "bool":
        return text.lower() == "true"
    return None if kind == "null" else text
