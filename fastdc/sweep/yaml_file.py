"""Read a sweep's YAML file: one small mapping of plain values, each with its line."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fastdc.common.errors import ConfigError
from fastdc.common.plain_yaml import Location, YamlFaultError, parse_yaml

MAX_BYTES = 1_000_000


class Document(NamedTuple):
    """Hold the values of a file, and the line (counted from 1) of every key and list item by its path."""

    values: dict[str, Any]
    lines: dict[Location, int]


def read_yaml(path: Path) -> Document:
    """Read a file that holds one mapping; see `fastdc.common.plain_yaml` for the rules.

    Raises:
        ConfigError: the file is not a small, plain mapping without duplicate keys; the message starts with
            `path:line:` where a line is known.
    """
    text = _read_text(path)
    try:
        value, lines = parse_yaml(text)
    except YamlFaultError as fault:
        raise ConfigError(f"{path}:{fault.line}: {fault}") from fault
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}:{_line(error)}: {_problem(error)}") from error
    except yaml.YAMLError as error:  # a control character
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}:{lines.get((), 1)}: expected a mapping such as `methods: all`")
    return Document(value, lines)


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


def _line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def _problem(error: yaml.MarkedYAMLError) -> str:
    text = " ".join(str(part) for part in (error.context, error.problem) if part)
    if "'\\t'" in text:
        text += " (a tab; indent with spaces)"
    return " ".join(text.split())
