"""Names of external sets in commands and YAML: NAME=FILE.beton, NAME=list:FILE or NAME=scores:FILE[keep=easy]."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

from fastdc.common.errors import ConfigError
from fastdc.common.settings import parse_settings

Kind = Literal["beton", "list", "scores"]
FORMS = "NAME=FILE.beton, NAME=list:FILE or NAME=scores:FILE[keep=easy]"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_FILE = re.compile(r"(?P<file>.+?)(?:\[(?P<settings>[^\[\]]*)\])?")


class ExternalName(NamedTuple):
    """External set as a command names it: its name, the kind and path of its file, and the settings in brackets."""

    name: str
    kind: Kind
    path: Path
    settings: dict[str, Any]


def is_external(text: str) -> bool:
    """Return whether an item of `methods` names an external set instead of a method: `mine=list:kept.npy`."""
    return "=" in text.partition("[")[0]


def parse_external(text: str) -> ExternalName:
    """Parse the name of an external set, for example `mine=list:kept.npy[fit=pad]`.

    Raises:
        ConfigError: the name has other characters than letters, digits, `-`, `_` and `.`, or no file of a known kind
            follows.
    """
    name, _, rest = (part.strip() for part in text.partition("="))
    if not NAME.fullmatch(name):
        raise ConfigError(f"name '{name}' of an external set: expected letters, digits, - _ and . in {FORMS}")
    found = _FILE.fullmatch(rest)
    file = found["file"].strip() if found else ""
    kind, colon, path = file.partition(":")
    if not colon or kind not in get_args(Kind):
        kind, path = "beton", file if file.endswith(".beton") else ""
    if not path:
        raise ConfigError(
            f"found '{file}' after {name}=, expected {FORMS}; fastdc write-beton makes a beton of images, and the "
            "settings of a method stand in brackets, such as el2n[keep=hard]"
        )
    inside = found["settings"] if found else None
    settings = parse_settings(inside.split(",")) if inside else {}
    return ExternalName(name, cast(Kind, kind), Path(path).expanduser(), settings)


def with_path(text: str, path: Path) -> str:
    """Return an external set as `text` names it, with its file at `path`."""
    named, found = parse_external(text), _FILE.fullmatch(text.partition("=")[2].strip())
    inside = found["settings"] if found else None
    return f"{named.name}={named.kind}:{path}{'' if inside is None else f'[{inside}]'}"


def without_home(text: str) -> str:
    """Return an item of `methods` with `~` in an external set's path replaced, so that other users find the file."""
    if not is_external(text):
        return text
    path = parse_external(text).path
    return text if str(path) in text else with_path(text, path)


def external_names(methods: Iterable[str]) -> list[str]:
    """Return the names of the external sets among `methods`."""
    return [parse_external(text).name for text in methods if is_external(text)]
