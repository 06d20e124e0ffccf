"""Read study.yaml: the blocks of the study, a sweep for each seed, and the rows that they request."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from fastdc.common.errors import ConfigError, FastDCError
from fastdc.common.machine import guess_device
from fastdc.common.precision import resolve_precision
from fastdc.common.settings import closest, expand_numbers, first_problem
from fastdc.observe.observer_config import ObserverConfig
from fastdc.sweep.external_variant import ExternalVariant
from fastdc.sweep.plan_checks import Variant, resolve_protocols, resolve_variants
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.sweep.yaml_file import Document, read_yaml

PATHS = ("train", "val", "workdir")
OWN = ("name", "seeds")


class Block(NamedTuple):
    """Part of the study: its name, and a sweep for each seed."""

    name: str
    sweeps: list[SweepConfig]


class Axes(NamedTuple):
    """Settings of a row, as its label shows them; `ipc` is None for the whole set."""

    method: str
    ipc: int | None
    protocol: str
    arch: str
    augment: str
    image_size: int
    precision: str


class Wanted(NamedTuple):
    """Row that study.yaml requests. `block` counts from 1; `observer` is None if the method reads none."""

    block: int
    name: str
    axes: Axes
    observer: str | None
    seed: int


def read_blocks(study: Path) -> list[Block]:
    """Return the blocks of DIR/study.yaml, with one sweep per seed, whose observer has the same seed.

    Raises:
        ConfigError: the file is not a valid study; names line, block and field.
    """
    path = study / "study.yaml"
    document = read_yaml(path)
    for key in (*PATHS, "common", "blocks"):
        if key not in document.values:
            raise ConfigError(f"{path}: no key '{key}'; a study needs {', '.join(PATHS)}, common and blocks")
    common, blocks = document.values["common"], document.values["blocks"]
    if not isinstance(common, dict) or not isinstance(common.get("observer", {}), dict):
        raise ConfigError(f"{path}:{document.lines[('common',)]}: common: expected a mapping, its observer another")
    if not isinstance(blocks, list) or not blocks:
        raise ConfigError(f"{path}:{document.lines[('blocks',)]}: blocks: expected a list of at least one block")
    paths = {name: document.values[name] for name in PATHS}
    return [
        _block(f"{path}:{_line(document, number)}", number, paths | common, block)
        for number, block in enumerate(blocks, 1)
    ]


def _line(document: Document, number: int) -> int:
    return document.lines.get(("blocks", number - 1), 1)


def _block(place: str, number: int, shared: dict[str, Any], block: Any) -> Block:
    if not isinstance(block, dict) or not isinstance(block.get("name"), str) or "seeds" not in block:
        raise ConfigError(f"{place}: block {number}: expected a mapping with a name, seeds and settings of a sweep")
    place = f"{place}: block {number} ({block['name']})"
    values = {**shared, **{key: value for key, value in block.items() if key not in OWN}}
    for key in values:
        if key not in SweepConfig.model_fields:
            raise ConfigError(f"{place}: unknown key '{key}'; {closest(key, [*OWN, *SweepConfig.model_fields])}")
    observer = {**shared.get("observer", {}), **_mapping(place, "observer", block.get("observer", {}))}
    try:
        seeds = expand_numbers(str(block["seeds"]))
        sweeps = [_sweep(values, observer, seed) for seed in seeds]
    except ValidationError as error:
        raise ConfigError(f"{place}: {first_problem(error)}") from error
    except ValueError as error:
        raise ConfigError(f"{place}: seeds: {error}") from error
    return Block(block["name"], sweeps)


def _mapping(place: str, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: {key}={value!r}: expected a mapping of settings")
    return value


def _sweep(values: Mapping[str, Any], observer: dict[str, Any], seed: int) -> SweepConfig:
    own = {"observer": {**observer, "seed": seed}, "seeds": (seed,), "pool_observers": True}
    return SweepConfig(**{**values, **own})


def wanted_rows(blocks: Iterable[Block]) -> list[Wanted]:
    """Return the rows that the blocks request, each once, in their order.

    This reads no beton and does not import torch.

    Raises:
        ConfigError, MethodError: a block names a method, protocol or setting that does not exist.
    """
    found: dict[tuple[Axes, str | None, int], Wanted] = {}
    for number, block in enumerate(blocks, 1):
        try:
            for sweep in block.sweeps:
                for axes, observer in _cells(sweep):
                    seed = sweep.seeds[0]
                    found.setdefault((axes, observer, seed), Wanted(number, block.name, axes, observer, seed))
        except FastDCError as error:
            raise type(error)(f"study.yaml: block {number} ({block.name}): {error}") from error
    return list(found.values())


def _cells(sweep: SweepConfig) -> Iterator[tuple[Axes, str | None]]:
    precision = resolve_precision(sweep.precision, guess_device())
    for variant in resolve_variants(sweep):
        protocols = [protocol.name for protocol in resolve_protocols(sweep, variant)]
        ipcs = (None,) if variant.whole_set else sweep.ipc
        for ipc, protocol, arch, augment in product(ipcs, protocols, sweep.archs, sweep.augment):
            axes = Axes(variant.name, ipc, protocol, arch, augment, sweep.image_size, precision)
            yield axes, _observer(sweep, variant)


def _observer(sweep: SweepConfig, variant: Variant | ExternalVariant) -> str | None:
    if not variant.observed:
        return None
    defaults = {"image_size": sweep.image_size, "precision": sweep.precision, "threads": sweep.threads}
    return ObserverConfig.make({**defaults, **sweep.observer}, "observer").summary
