"""Refuse, before any work, names, settings and data that do not fit a sweep. Does not import torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fastdc.common.choices import Device
from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.settings import merge_settings
from fastdc.nn.arch_names import check_arch
from fastdc.observe.record_needs import OBSERVED
from fastdc.subsets.external_names import external_names, is_external
from fastdc.sweep.external_variant import (
    ExternalVariant,
    resolve_external,
    split_protocol_settings,
)
from fastdc.sweep.holdout import Data, training_set
from fastdc.sweep.sweep_config import SweepConfig

if TYPE_CHECKING:
    from fastdc.beton import Manifest
    from fastdc.methods import Method, MethodConfig
    from fastdc.observe.observer_config import ObserverConfig
    from fastdc.teachers.plan import TeacherPlan
    from fastdc.train.protocols import Protocol

NEEDS_SERVED = (*OBSERVED, "teacher", "bn_statistics")


@dataclass(frozen=True)
class Variant:
    """Describe a method as the sweep runs it.

    Attributes:
        name: method name, with the settings that differ from the defaults in brackets.
        method: the method itself.
        config: its checked settings.
        settings: the settings that differ from the defaults, as plain data.
        protocol_settings: overrides of the protocol for this method.
        explicit: the method is requested by name, not through `all`. If it cannot run, that is an error instead of a
            skipped row.
        skip: why it cannot run at all; None if it can.
        teachers: the networks that it runs.
    """

    sort: ClassVar[str] = "method"
    name: str
    method: "Method"
    config: "MethodConfig"
    settings: dict[str, Any]
    protocol_settings: dict[str, Any]
    explicit: bool = False
    skip: str | None = None
    teachers: "tuple[TeacherPlan, ...]" = ()

    @property
    def stem(self) -> str:
        """Return the name of the method, which stored files and messages start with."""
        return self.method.info.name

    @property
    def whole_set(self) -> bool:
        """Return whether the method keeps the whole training set, whatever the ipc."""
        return self.method.info.whole_set

    @property
    def observed(self) -> bool:
        """Return whether the method reads the observer's record."""
        return self.method.observed(self.config)

    @property
    def needs_order(self) -> bool:
        """Return whether the class order of one of its teachers is given by the user."""
        return any(teacher.order is not None for teacher in self.teachers)

    @property
    def stochastic(self) -> bool:
        """Return whether the subset seed changes the set."""
        return self.method.stochastic(self.config)

    @property
    def hints(self) -> dict[str, Any]:
        """Return the cropping hints of the sets, which are known before a set is made."""
        return self.method.training_crop(self.config).hints

    @property
    def follows_ipc(self) -> bool:
        """Return whether the number of images per class is that of the sweep."""
        return not self.whole_set

    def budgets(self, ipcs: Sequence[int]) -> Sequence[int | None]:
        """Return the images per class of its rows; None stands for the whole set."""
        return (None,) if self.whole_set else ipcs

    def budget_problem(self, train: "Manifest", ipc: int, image_size: int) -> str | None:
        """Return why a training set cannot serve `ipc` images per class of this side, or None if it can."""
        from fastdc.methods.bases.method import budget_problem

        return budget_problem(self.method, self.config, train.classes, train.counts, ipc, image_size)

    def facts(self, image_size: int) -> dict[str, Any]:
        """Return what rows state about the method: inferred settings, and how it falls short of its paper."""
        # The whole set depends on no setting.
        reduced = () if self.whole_set else self.method.reductions(self.config, image_size)
        return {"inferred": list(self.method.inferred(self.config, image_size)), "reduced": list(reduced)}

    def network_visits(self, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Return the passes through its teachers that a set takes; see `Method.network_visits`."""
        return self.method.network_visits(self.config, images, train_images, image_size, classes)


AnyVariant = Variant | ExternalVariant


def resolve_variants(config: SweepConfig) -> list[AnyVariant]:
    """Return the methods and external sets of a sweep in the requested order; `all` stands for every unbroken method.

    Raises:
        ConfigError, MethodError: a name is unknown or broken, a setting is unknown, or one has two values.
    """
    from fastdc.methods import all_methods, get_method, parse_variant

    variants: dict[str, AnyVariant] = {}
    for text in config.methods:
        if is_external(text):
            external = resolve_external(text, config)
            variants[external.name] = external
            continue
        named = [(name, {}) for name in all_methods()] if text == "all" else [parse_variant(text)]
        for name, settings in named:
            variant = _variant(get_method(name), settings, config.set.get(name, {}))
            known = variants.get(variant.name)
            explicit = text != "all" or (known is not None and known.explicit)
            variants[variant.name] = replace(variant, explicit=explicit)
    for name in [name for name in config.set if name not in external_names(config.methods)]:
        get_method(name)  # raises for an unknown name; a file may configure methods that this sweep leaves out
    return list(variants.values())


def read_external_sets(variants: list[AnyVariant], data: Data) -> list[AnyVariant]:
    """Return the variants with the files of external sets read and checked; see `open_external`."""
    if not any(isinstance(variant, ExternalVariant) for variant in variants):
        return variants
    train, size = training_set(data), data.config.image_size
    return [each.with_file(train, size) if isinstance(each, ExternalVariant) else each for each in variants]


def _variant(method: "Method", own: dict[str, Any], common: dict[str, Any]) -> Variant:
    from fastdc.methods import variant_name

    common, protocol = split_protocol_settings(common)
    settings = merge_settings(f"method {method.info.name}", own, common)
    config = method.configure(settings)
    default = method.config_class().model_dump(mode="json")
    dumped = config.model_dump(mode="json")
    # A setting given at its default value changes neither the name nor the key.
    changed = {key: dumped[key] for key in settings if dumped.get(key) != default.get(key)}
    skip = None
    missing = [need for need in method.info.needs if need not in NEEDS_SERVED]
    if missing:
        skip = f"needs {', '.join(missing)}, which this version of fastdc does not provide"
    return Variant(variant_name(method.info.name, changed), method, config, changed, protocol, skip=skip)


def resolve_protocols(config: SweepConfig, variant: AnyVariant) -> list["Protocol"]:
    """Return the protocols of a sweep, with the overrides that a method has for them.

    Raises:
        ConfigError: a protocol or setting is unknown, or a value is out of range.
    """
    from fastdc.train.protocols import get_protocol

    try:
        return [get_protocol(name, variant.protocol_settings) for name in config.protocol_names]
    except ConfigError as error:
        if variant.protocol_settings:
            raise ConfigError(f"set {variant.stem}.protocol: {error}") from error
        raise


def resolve_observer(config: SweepConfig, train: "Manifest", device: Device) -> "ObserverConfig":
    """Return the observer's settings: those given, or those of the observer in the workdir for this training set.

    Args:
        config: the sweep's configuration.
        train: manifest of the training set.
        device: where the sweep computes; a new observer is trained there too.

    Raises:
        ConfigError: a setting or the network is unknown, or a value is out of range.
    """
    from fastdc.observe import choose_observer

    defaults: dict[str, Any] = {"image_size": config.image_size, "precision": config.precision}
    defaults |= {"threads": config.threads, "device": device}
    observer = choose_observer(config.train, train.content_hash, config.workdir, config.observer, defaults)
    check_arch(observer.arch)
    return observer


def with_teachers(
    variant: AnyVariant, config: SweepConfig, train: "Manifest", observer: "ObserverConfig"
) -> AnyVariant:
    """Return the variant with the networks that its method runs, marked as skipped if they cannot serve it.

    Raises:
        MethodError: they cannot serve a method that is requested by name.
    """
    from fastdc.subsets.request import plan_teachers

    if isinstance(variant, ExternalVariant) or variant.skip is not None:
        return variant
    try:
        data = (train, observer, config.image_size, config.teacher_order)
        plans = plan_teachers(variant.method, variant.config, *data)
    except (ConfigError, MethodError) as error:
        if variant.explicit:
            raise MethodError(f"method {variant.name}: {error}") from error
        return replace(variant, skip=str(error))
    return replace(variant, teachers=plans)


def resolve_teacher(
    config: SweepConfig, train: "Manifest", observer: "ObserverConfig", protocols: "Iterable[Protocol]"
) -> "TeacherPlan | None":
    """Return the network that gives soft labels; None if no protocol uses them.

    Raises:
        ConfigError, MethodError: there is no such teacher, or it cannot serve this data set.
    """
    if not any(protocol.soft for protocol in protocols):
        return None
    from fastdc.teachers.names import plan_teacher
    from fastdc.teachers.plan import check_side

    teacher = plan_teacher(config.teacher, train, observer, config.teacher_order)
    check_side(teacher, config.image_size)
    return teacher


def check_ipc(train: "Manifest", config: SweepConfig, variants: list[AnyVariant]) -> None:
    """Refuse an IPC that no method can serve; a sweep without IPC can only train on the whole set.

    Raises:
        ConfigError: the IPC is missing, or too large; names the class that is too small and the number needed.
    """
    budgeted = [variant for variant in variants if variant.follows_ipc]
    if budgeted and not config.ipc:
        raise ConfigError(
            f"--ipc is missing; {budgeted[0].sort} '{budgeted[0].name}' needs the images per class, for example --ipc "
            "10,50"
        )
    for ipc in config.ipc if budgeted else ():
        problems = [each.budget_problem(train, ipc, config.image_size) for each in budgeted]
        if None not in problems:
            raise ConfigError(f"{config.train}: {budgeted[0].name}: {problems[0]}; lower --ipc or add images")


def why_not(
    train: "Manifest", observer: "ObserverConfig", variant: AnyVariant, ipc: int | None, image_size: int
) -> str | None:
    """Return why a method cannot run on these data with this observer; None if it can.

    Raises:
        MethodError: a method that is requested by name cannot run.
    """
    from fastdc.subsets.request import check_observer

    reason = variant.skip
    advice = "or leave it out"
    if reason is None and ipc is not None:
        reason, advice = variant.budget_problem(train, ipc, image_size), "lower --ipc, add images, or leave it out"
    if reason is None and isinstance(variant, Variant):
        try:
            check_observer(variant.method, variant.config, observer)
        except MethodError as error:
            reason, advice = str(error).removeprefix(f"method {variant.stem}: "), "or leave it out"
    if reason is not None and variant.explicit:
        raise MethodError(f"{variant.sort} {variant.name}: {reason}; {advice}")
    return reason


def check_needs(
    train: "Manifest",
    observer: "ObserverConfig",
    variants: Iterable[AnyVariant],
    ipcs: Sequence[int],
    image_size: int,
) -> None:
    """Refuse methods that are requested by name and cannot run; one message names all of them.

    Raises:
        MethodError: see `why_not`.
    """
    problems = []
    for variant in variants:
        try:
            for ipc in variant.budgets(ipcs):
                why_not(train, observer, variant, ipc, image_size)
        except MethodError as error:
            problems.append(str(error))
    if problems:
        raise MethodError("; also ".join(problems))
