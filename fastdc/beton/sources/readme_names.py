"""Read class names from the YAML header of the README.md that is beside parquet shards of the Hugging Face hub."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fastdc.beton.sources.hub_cache import hub_name
from fastdc.beton.texts import one_spelling
from fastdc.common.log import log_message
from fastdc.common.text import one_line

_MAX_BYTES = 1 << 22
_HEADER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(?P<header>.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)


def readme_names(source: Path, shard: str, label: str) -> tuple[str, ...] | None:
    """Return the names that a README.md gives for the numbers in column `label`; None if there are none.

    It lies in the folder of the shards, or above it up to `source`, or up to the snapshot of the hub's cache. If
    configurations name the classes differently, the one whose name is in the shard's path counts. An invalid YAML
    header is reported.

    Args:
        source: folder of shards, or one shard. shard: path of a shard, relative to the folder.
    """
    root = source if source.is_dir() else source.parent
    full = (root / shard).absolute()
    top = next((folder for folder in full.parents if hub_name(folder)), root.absolute())
    inner = full.relative_to(top)
    for folder in inner.parents:
        path = top / folder / "README.md"
        found = dict(_read_configs(path, label)) if path.is_file() else {}
        different = set(found.values())
        if len(different) == 1:
            return different.pop()
        if different:
            names = {found[part] for part in inner.parts if part in found}
            if len(names) == 1:
                return names.pop()
            log_message(f"note: {path}: its configurations name the classes in {len(different)} ways; none is taken")
            return None
    return None


def _read_configs(path: Path, label: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name of each configuration that names classes, with the names."""
    try:
        with path.open("rb") as handle:
            header = _HEADER.match(handle.read(_MAX_BYTES).decode("utf-8", "replace"))
        # All scalars stay text, so that a class `no` does not become False.
        values = yaml.load(header["header"], Loader=yaml.BaseLoader) if header else {}
    except (OSError, yaml.YAMLError, RecursionError) as error:
        log_message(f"note: {path}: its header is not read ({one_line(error)}); name the classes with --classes")
        return
    infos = values.get("dataset_info") if isinstance(values, dict) else None
    for number, info in enumerate(infos if isinstance(infos, list) else [infos]):
        names = _names_of(info, label) if isinstance(info, dict) else None
        if names:
            yield str(info.get("config_name", number)), names


def _names_of(info: dict[str, Any], label: str) -> tuple[str, ...] | None:
    """Return the names in one entry of `dataset_info`; None unless they are a list, or numbered from 0."""
    features = info.get("features")
    for feature in features if isinstance(features, list) else ():
        if not isinstance(feature, dict) or feature.get("name") != label:
            continue
        kind = feature.get("dtype")
        inner = kind.get("class_label") if isinstance(kind, dict) else None
        names = inner.get("names") if isinstance(inner, dict) else None
        if isinstance(names, dict):
            names = [names.get(str(number)) for number in range(len(names))]
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return tuple(map(one_spelling, names))
    return None
