"""Read and check the configuration of a sweep: a YAML file merged with the command line, which wins."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from fastdc.beton.hints import Augment
from fastdc.common.choices import EngineChoice, OrderName, Precision, Together
from fastdc.common.errors import ConfigError
from fastdc.common.log import log_message
from fastdc.common.plain_yaml import Location
from fastdc.common.settings import Settings, closest, expand_numbers, first_problem, parse_settings, split_names
from fastdc.subsets.external_names import external_names
from fastdc.subsets.request import DEFAULT_IMAGE_SIZE
from fastdc.sweep.grid_values import nest_settings, split_each, split_protocols
from fastdc.sweep.yaml_file import read_yaml
from fastdc.track.trackers import check_trackers
from fastdc.train.protocol_names import with_epochs

OPTIONS = {"protocols": "--protocol", "archs": "--arch"}
LEAST = {"ipc": (1, "at least 1 image per class"), "epochs": (1, "at least 1 epoch"), "seeds": (0, "seeds from 0 up")}
"""Smallest value of each list of numbers, and what a message calls it."""


class SweepConfig(Settings):
    """Describe a grid of runs: methods x ipc x protocols x epochs x archs x augment x seeds.

    Paths are relative to the current directory.

    Attributes:
        train: beton of the training set.
        val: beton of the validation set, with the same classes in the same order; not read with `holdout`.
        holdout: share of every training class that replaces the validation set, for choices that must not see it.
            Methods, observers and teachers never read the held-out images. None or 0 holds out nothing.
        allow_missing_classes: match the classes of `val` by name; it may lack some, whose accuracy is null.
        workdir: folder of the store, subsets and observers; created if missing.
        methods: method names or variants (`el2n[keep=hard]`), or `all`; and external sets (`mine=list:kept.npy`), see
            `fastdc.subsets.external`.
        ipc: stored images per class; `full`, imported betons and lists ignore it.
        seeds: training seeds; stochastic methods draw one subset per seed.
        protocols: protocol names, with overrides (`hard*epochs=60`).
        epochs: numbers of epochs, at each of which every protocol is run; `hard` at 60 is `hard*epochs=60`. Empty
            leaves the protocols' own.
        archs: networks trained from scratch.
        observer: settings of the observer that methods with dynamics share, including its precision and threads.
            Without any, the first observer trained in `workdir` serves, or else the default at `image_size`.
        pool_observers: average runs of sweeps that differ only in the observer's seed in one row; otherwise each
            observer has its own rows. It changes no result and no key.
        teacher: network that gives the labels of soft protocols, as `fastdc.teachers.names` names it: the observer,
            a file or a pretrained network. Methods that run teachers have their own setting for them.
        teacher_order: class order of the outputs of teachers whose files do not name their classes (`ARCH@FILE`),
            including the methods' teachers; None for the data set's order.
        image_size: side of the stored images, in pixels.
        set: settings of single methods, `{"pca": {"grid": 3}}`; `protocol.KEY` overrides the protocol for them.
        augment: cropping rules, each of which gets its own table. `method` follows the hints of a subset, `protocol`
            ignores them, `tile:2` crops inside tiles of every set (`fastdc.beton.hints`).
        precision: fp32 is IEEE; tf32, bf16 and fp16 are faster on a GPU; `auto` is bf16 on GPUs with it, else fp32.
        threads: CPU threads of each training; 0 takes every usable CPU.
        loader: engine that makes the batches. All engines give the same batches; pixels of `device` may differ by one
            level.
        together: train runs that differ only in `archs` at once, from one stream that decodes every image once. Under
            a protocol with order=shared or stored labels they may also differ in `seeds`. On CPU the digits stay the
            same. `auto` does so on CUDA for sets too large to be kept decoded, where decoding takes most of the time.
            On CUDA, `auto` and `always` train all `archs` and `seeds` of a method at once if images have at most
            64 px, because their steps leave a GPU idle. With a teacher's labels, seeds join only if they share one set
            and one order.
        compile: run the networks of trainings through torch.compile, which changes digits; they get rows of their own.
        track: trackers that receive the curves (`fastdc.track`); no result depends on them.
    """

    train: Path
    val: Path | None = None
    holdout: float | None = None
    workdir: Path
    allow_missing_classes: bool = False
    methods: tuple[str, ...] = Field(("all",), min_length=1)
    ipc: tuple[int, ...] = ()
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    protocols: tuple[str, ...] = Field(("hard",), min_length=1)
    epochs: tuple[int, ...] = ()
    archs: tuple[str, ...] = Field(("resnet18",), min_length=1)
    observer: dict[str, Any] = Field(default_factory=dict)
    pool_observers: bool = False
    teacher: str = Field("observer", min_length=1)
    teacher_order: OrderName | None = None
    image_size: int = Field(DEFAULT_IMAGE_SIZE, ge=8, le=4096)
    set: dict[str, dict[str, Any]] = Field(default_factory=dict)
    augment: tuple[Augment, ...] = Field(("method",), min_length=1)
    precision: Precision = "auto"
    threads: int = Field(0, ge=0)
    loader: EngineChoice = "auto"
    together: Together = "auto"
    compile: bool = False
    track: tuple[str, ...] = ()

    @property
    def protocol_names(self) -> tuple[str, ...]:
        """Return the protocols by full name, each at each of the `epochs`."""
        each = tuple(with_epochs(name, epochs) for name in self.protocols for epochs in self.epochs)
        return each or self.protocols

    @property
    def val_file(self) -> Path:
        """Return the path of the validation set; with `holdout` it is known only once the sweep is planned."""
        assert self.val is not None
        return self.val

    @field_validator("holdout", mode="after")
    @classmethod
    def _share(cls, value: float | None) -> float | None:
        if value is not None and not 0.0 <= value < 1.0:
            raise ValueError("expected a share of each class between 0 and 1, such as 0.2")
        return value or None  # one value for "no holdout", so that `--holdout 0` turns off that of a file

    @model_validator(mode="after")
    def _validated_on_something(self) -> Self:
        if self.val is None and self.holdout is None:
            raise ValueError("val is missing; give a validation set, or holdout")
        return self

    @field_validator("methods", "archs", "augment", "track", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        return split_each(value, split_names)

    @field_validator("methods")
    @classmethod
    def _one_set_of_a_name(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            names = external_names(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two external sets are called '{twice}'; give each its own name")
        return value

    @field_validator("protocols", mode="before")
    @classmethod
    def _split_protocols(cls, value: Any) -> Any:
        return split_each(value, split_protocols)

    @field_validator("track")
    @classmethod
    def _known_trackers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return check_trackers(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @field_validator("ipc", "seeds", "epochs", mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return split_each(value, expand_numbers)

    @field_validator(*LEAST)
    @classmethod
    def _at_least(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        least, expected = LEAST[str(info.field_name)]
        if value and min(value) < least:
            raise ValueError(f"expected {expected}")
        return value

    @field_validator("epochs")
    @classmethod
    def _not_of_protocols(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        try:
            for protocol in info.data.get("protocols", ()) if value else ():
                with_epochs(protocol, value[0])
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("set", mode="before")
    @classmethod
    def _nest(cls, value: Any, info: ValidationInfo) -> Any:
        return nest_settings(value, external_names(info.data.get("methods", ())))


def load_config(path: Path | None, overrides: Mapping[str, Any], settings: Iterable[str] = ()) -> SweepConfig:
    """Read the configuration of a sweep from a YAML file and the command line.

    Args:
        path: YAML file, or None.
        overrides: values from the command line by field name. Each replaces the file's value; those of `observer`
            replace it key by key.
        settings: `METHOD.key=value` from `--set`; each replaces the same setting of the file's `set`.

    Raises:
        ConfigError: `file:line: key: ...` or `--option: ...`, one line, for the first problem.
    """
    document = read_yaml(path) if path else None
    lines: dict[Location, int] = document.lines if document else {}
    values = dict(document.values) if document else {}
    for key in values:
        if key not in SweepConfig.model_fields:
            raise ConfigError(f"{path}:{lines[(key,)]}: unknown key '{key}'; {closest(key, SweepConfig.model_fields)}")
    given = parse_settings(settings)
    file_observer = values.get("observer")
    values |= overrides
    # `observer` is merged key by key; every other option replaces the file's value.
    if "observer" in overrides and isinstance(file_observer, dict):
        values["observer"] = file_observer | overrides["observer"]
    if given:
        values["set"] = _merged_settings(values.get("set"), f"{path}:{lines.get(('set',), 1)}", given)
    needed = ("train", "workdir") if values.get("holdout") else ("train", "val", "workdir")
    missing = [key for key in needed if values.get(key) is None]
    if missing:
        where = f"{path}: no key '{missing[0]}'" if path else f"--{missing[0]} is missing"
        raise ConfigError(f"{where}; a sweep needs train, val (or holdout) and workdir, in its YAML file or as options")
    try:
        config = SweepConfig(**values)
    except ValidationError as error:
        raise ConfigError(_located(error, path, lines, set(overrides) | ({"set"} if given else set()))) from error
    _check_used(config.methods, nest_settings(given, external_names(config.methods)))
    _check_val(config, "val" in overrides)
    return config


def _check_val(config: SweepConfig, given: bool) -> None:
    """Refuse a `--val` that would not be read; for one in the file only write a note."""
    if config.holdout is None or config.val is None:
        return
    reason = f"is not read with holdout={config.holdout:g}, which evaluates on held-out training images"
    if given:
        raise ConfigError(f"--val {config.val}: {reason}; leave one out (--holdout 0 turns a file's off)")
    log_message(f"note: val {config.val} {reason}")


def _check_used(methods: Iterable[str], given: Iterable[str]) -> None:
    """Refuse a `--set` for a method that the sweep leaves out, because it would change nothing."""
    swept = [re.split(r"[\[=]", name)[0].strip() for name in methods]
    for name in given:
        if "all" not in swept and name not in swept:
            raise ConfigError(f"--set {name}...: is not among the methods {', '.join(swept)}; {closest(name, swept)}")


def _merged_settings(file: Any, place: str, given: dict[str, Any]) -> Any:
    """Return the settings of `set` in the file, which stand at `place`, with those given as options."""
    try:
        base = nest_settings(file)
    except ValueError as error:
        raise ConfigError(f"{place}: set={file!r}: {error}") from error
    try:
        new = nest_settings(given)
    except ValueError as error:
        raise ConfigError(f"--set: {error}") from error
    return {method: base.get(method, {}) | new.get(method, {}) for method in [*base, *new]}


def _located(error: ValidationError, path: Path | None, lines: dict[Location, int], options: set[str]) -> str:
    """Describe the first problem and its place: a command-line option, or file:line."""
    location, text = tuple(error.errors()[0]["loc"]), first_problem(error)
    field = str(location[0]) if location else ""
    if field in options or path is None:
        return f"{OPTIONS.get(field, '--' + field.replace('_', '-'))}: {text}"
    while location and location not in lines:  # values split from one item have no line of their own
        location = location[:-1]
    return f"{path}:{lines.get(location, 1)}: {text}"
