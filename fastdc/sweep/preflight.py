"""What a sweep refuses before any work: names, settings and data that do not fit. Imports no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastdc.errors import ConfigError
from fastdc.sweep.config import SweepConfig

if TYPE_CHECKING:
    from fastdc.beton import Manifest
    from fastdc.methods import Method, MethodConfig
    from fastdc.observe.config import ObserverConfig
    from fastdc.train.protocols import Protocol

NEEDS_SERVED = ("dynamics",)


@dataclass(frozen=True)
class Variant:
    """A method as the sweep runs it. `name` shows the settings that differ from the defaults."""

    name: str
    method: "Method"
    config: "MethodConfig"
    settings: dict[str, Any]
    protocol_settings: dict[str, Any]
    skip: str | None = None

    @property
    def whole_set(self) -> bool:
        """Whether it trains on the training set itself, whatever the ipc."""
        return self.method.info.whole_set


def resolve_variants(config: SweepConfig) -> list[Variant]:
    """Methods of a sweep, configured, in the order asked for; `all` is every method that is not broken.

    Raises:
        ConfigError, MethodError: unknown or broken name, unknown setting.
    """
    from fastdc.methods import all_methods, get_method, parse_variant

    variants: list[Variant] = []
    for text in config.methods:
        named = [(name, {}) for name in all_methods()] if text == "all" else [parse_variant(text)]
        for name, settings in named:
            variants.append(_variant(get_method(name), settings, config.set.get(name, {})))
    for name in config.set:
        get_method(name)  # a file may configure methods that this sweep leaves out, but not ones that do not exist
    return list({variant.name: variant for variant in variants}.values())


def _variant(method: "Method", own: dict[str, Any], common: dict[str, Any]) -> Variant:
    from fastdc.methods import variant_name

    prefix = "protocol."
    protocol = {key.removeprefix(prefix): value for key, value in common.items() if key.startswith(prefix)}
    settings = {key: value for key, value in common.items() if not key.startswith(prefix)} | own
    config = method.configure(settings)
    default = method.config_class().model_dump(mode="json")
    dumped = config.model_dump(mode="json")
    changed = {key: dumped[key] for key in settings if dumped.get(key) != default.get(key)}
    skip = None
    missing = [need for need in method.info.needs if need not in NEEDS_SERVED]
    if missing:
        skip = f"needs {', '.join(missing)}, which this version of fastdc does not provide"
    return Variant(variant_name(method.info.name, changed), method, config, changed, protocol, skip)


def resolve_protocols(config: SweepConfig, variant: Variant) -> list["Protocol"]:
    from fastdc.train.protocols import get_protocol

    try:
        return [get_protocol(name, variant.protocol_settings) for name in config.protocols]
    except ConfigError as error:
        if variant.protocol_settings:
            raise ConfigError(f"set {variant.method.info.name}.protocol: {error}") from error
        raise


def resolve_observer(config: SweepConfig, train: "Manifest") -> "ObserverConfig":
    """The observer's settings: those given, or the observer that the folder already has for this training set.

    Raises:
        ConfigError: unknown setting, unknown network, or a value out of range.
    """
    from fastdc.observe import choose_observer

    defaults = {"image_size": config.image_size, "precision": config.precision, "threads": config.threads}
    observer = choose_observer(config.train, train.content_hash, config.workdir, config.observer, defaults)
    check_archs([observer.arch])
    return observer


def check_archs(archs: Iterable[str]) -> None:
    """Refuse a network that does not exist.

    Raises:
        ConfigError: names the closest one.
    """
    from fastdc.nn.names import check_arch

    for arch in archs:
        check_arch(arch)


def check_classes(train: "Manifest", val: "Manifest", config: SweepConfig) -> None:
    """Refuse a validation set of other classes, or of the same ones in another order.

    Raises:
        ConfigError: lists the first differences.
    """
    if train.classes == val.classes:
        return
    where = f"train {config.train} and val {config.val}"
    if sorted(train.classes) == sorted(val.classes):
        at = next(i for i, pair in enumerate(zip(train.classes, val.classes, strict=True)) if pair[0] != pair[1])
        raise ConfigError(
            f"{where}: same classes in another order, first at class {at}: '{train.classes[at]}' and "
            f"'{val.classes[at]}'; write both from folders with the same class names"
        )
    only_train = [name for name in train.classes if name not in set(val.classes)]
    only_val = [name for name in val.classes if name not in set(train.classes)]
    raise ConfigError(
        f"{where}: classes differ ({len(train.classes)} and {len(val.classes)}): {_some(only_train)} only in train, "
        f"{_some(only_val)} only in val; write both from folders with the same class names"
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown}, ... ({len(names)})" if len(names) > 3 else shown or "none"


def check_ipc(train: "Manifest", config: SweepConfig, variants: list[Variant]) -> None:
    """Refuse an IPC that some class cannot serve; a sweep without IPC can only train on the whole set.

    Raises:
        ConfigError: names the smallest class and its size.
    """
    budgeted = [variant.name for variant in variants if not variant.whole_set]
    if not budgeted:
        return
    if not config.ipc:
        raise ConfigError(
            f"--ipc is missing; method '{budgeted[0]}' needs the images per class, for example --ipc 10,50"
        )
    smallest = min(train.counts)
    if max(config.ipc) > smallest:
        name = train.classes[train.counts.index(smallest)]
        raise ConfigError(
            f"ipc {max(config.ipc)}: class '{name}' of {config.train} has only {smallest} images; "
            f"choose --ipc up to {smallest}"
        )
