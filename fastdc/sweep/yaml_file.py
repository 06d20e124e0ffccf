"""Read YAML without its traps: one document of plain values, each with its line.

Duplicate keys, anchors and aliases (alias bombs), tags (Python objects), deep nesting and big files are refused. By the
rules of YAML 1.2 `no`, `12:30` and dates stay text, `010` is 10, and `1e-3` is a number.
"""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fastdc.common.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 12
Location = tuple[str | int, ...]


class Document(NamedTuple):
    """Hold plain values, and the line (counted from 1) of every key and list item by its path."""

    values: dict[str, Any]
    lines: dict[Location, int]


class _FaultError(Exception):
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
            raise _FaultError("anchors and aliases (& and *) are not allowed; write the value out", event.start_mark)
        if getattr(event, "tag", None):
            raise _FaultError(f"tag '{event.tag}' is not allowed; only plain values are", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _FaultError(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
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


def read_yaml(path: Path) -> Document:
    """Read a file that holds one mapping.

    Raises:
        ConfigError: the file is not a small, plain mapping without duplicate keys; the message starts with
            `path:line:` where a line is known.
    """
    text = _read_text(path)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        if not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1 if node else 1
            raise ConfigError(f"{path}:{line}: expected a mapping such as `methods: all`")
        lines: dict[Location, int] = {}
        return Document(_plain(node, (), lines), lines)
    except _FaultError as fault:
        raise ConfigError(f"{path}:{fault.line}: {fault}") from fault
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}:{_line(error)}: {_problem(error)}") from error
    except yaml.YAMLError as error:  # a control character
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; expected a sweep's YAML file") from error
    except IsADirectoryError as error:
        raise ConfigError(
            f"{path}: is a folder, expected a sweep's YAML file; a sweep's folder is given as --workdir, "
            f"its results are shown by: fastdc report {path}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a sweep's YAML file") from error
    if data is None:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; expected a sweep's YAML file")
    try:
        return data.decode("utf-8-sig")  # without the byte order mark that some Windows editors write
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error


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
            raise _FaultError("a key must be plain text", key_node.start_mark)
        key = key_node.value
        if key in values:
            first = lines[(*location, key)]
            raise _FaultError(f"key '{key}' is given twice (first in line {first}); keep one", key_node.start_mark)
        values[key] = _plain(value_node, (*location, key), lines)
        lines[(*location, key)] = key_node.start_mark.line + 1  # the key's line replaces that of its value
    return values


def _scalar(node: yaml.ScalarNode) -> Any:
    kind = node.tag.rpartition(":")[2]
    text = str(node.value)
    if kind in ("int", "float") and len(text) > 40:  # Python takes long to read, or refuses, thousands of digits
        raise _FaultError(f"number '{text[:20]}...' has {len(text)} digits", node.start_mark)
    if kind == "int":
        return int(text)
    if kind == "float":
        value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(value):
            raise _FaultError(f"{text} is not a usable number", node.start_mark)
        return value
    if kind == "bool":
        return text.lower() == "true"
    return None if kind == "null" else text


def _line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def _problem(error: yaml.MarkedYAMLError) -> str:
    text = " ".join(str(part) for part in (error.context, error.problem) if part)
    if "'\\t'" in text:
        text += " (a tab; indent with spaces)"
    return " ".join(text.split())
