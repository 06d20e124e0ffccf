"""Plan a sweep: check it, and list its cells with their content keys.

A cell's key hashes what its result depends on:

* the content of train and val
* the method with version and settings, ipc and subset seed
* training seed, protocol, network, precision, augmentation and image size, and whether torch.compile runs the network
* the observer, if the method reads one
* the teachers, if the method runs some or the protocol's labels come from one
* on CPU the thread count, because sums over another number of threads round differently
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from fastdc.beton.classes import check_same_classes
from fastdc.beton.hints import tile_crop
from fastdc.common.choices import Device
from fastdc.common.keys import content_key
from fastdc.common.machine import guess_device
from fastdc.common.precision import check_precision, precision_key, precision_label, resolve_precision
from fastdc.nn.arch_names import check_arch
from fastdc.sweep.external_variant import ExternalVariant
from fastdc.sweep.holdout import read_data
from fastdc.sweep.plan import Cell, Plan, SubsetPlan
from fastdc.sweep.plan_checks import (
    AnyVariant,
    Variant,
    check_ipc,
    check_needs,
    read_external_sets,
    resolve_observer,
    resolve_protocols,
    resolve_teacher,
    resolve_variants,
    why_not,
    with_teachers,
)
from fastdc.sweep.sweep_config import SweepConfig

if TYPE_CHECKING:
    from fastdc.subsets.external_request import ExternalRequest
    from fastdc.subsets.request import SubsetRequest
    from fastdc.teachers.plan import TeacherPlan
    from fastdc.train.protocols import Protocol

KEY_SCHEMA = 1


def make_plan(config: SweepConfig, device: Device | None = None) -> Plan:
    """Check a sweep and list its cells. Does not import torch.

    Args:
        config: the grid.
        device: where cells will train; None guesses it.

    Raises:
        BetonError, ManifestError: train or val is not a sound beton.
        ConfigError: a method, protocol, network or setting is unknown, class lists differ, or no method can serve
            the IPC.
        MethodError: a method that is named explicitly cannot be used at all, or not with this IPC or observer.
    """
    from fastdc.common.threads import usable_cpus
    from fastdc.teachers.plan import check_order_used
    from fastdc.train.labels.layout import label_bytes

    given, variants = config, resolve_variants(config)
    protocols = [(variant, resolve_protocols(config, variant)) for variant in variants]
    for arch in config.archs:
        check_arch(arch)
    data = read_data(config)
    config, train, val, holdout = data
    variants = read_external_sets(variants, data)
    protocols = [(variant, choices) for variant, (_, choices) in zip(variants, protocols, strict=True)]
    device = device or guess_device()
    observer = resolve_observer(config, train, device)
    check_same_classes((config.train, train), (config.val_file, val), config.allow_missing_classes)
    check_ipc(train, config, variants)
    for protocol in (each for _, choices in protocols for each in choices):
        label_bytes(protocol, 1, len(train.classes))  # called for its check: no more stored logits than classes
    protocols = [(with_teachers(variant, config, train, observer), choices) for variant, choices in protocols]
    teacher = resolve_teacher(config, train, observer, (each for _, choices in protocols for each in choices))
    used = [plan for variant, _ in protocols for plan in variant.teachers] + ([] if teacher is None else [teacher])
    check_order_used(config.teacher_order if used else None, used)
    check_precision(resolve_precision(config.precision, device), device)
    check_precision(observer.precision, observer.device)
    check_needs(train, observer, [variant for variant, _ in protocols], config.ipc)
    plan = Plan(config, device, config.threads or usable_cpus(), train, val, observer, teacher, holdout)
    seen: set[str] = set()
    for variant, choices in protocols:
        for cell in _cells_of(plan, variant, choices):
            if cell.key not in seen:  # two spellings of one method give the same key
                seen.add(cell.key)
                plan.cells.append(cell)
    plan.cells.extend(_broken_cells(plan))
    # The whole set runs last: it takes longest, and the table fills sooner without it.
    plan.cells.sort(key=lambda cell: (cell.label["ipc"] is None, cell.label["ipc"] or 0))
    if config.pool_observers:  # plan the same sweep with observer seed 0, whose cells come in the same order
        first = given.model_copy(update={"pool_observers": False, "observer": {**config.observer, "seed": 0}})
        plan.cells[:] = map(_in_group_of, plan.cells, make_plan(first, device).cells)
    return plan


def _in_group_of(cell: Cell, other: Cell) -> Cell:
    """Return the cell with the group of `other`, the same run with another observer, to average both in one row."""
    return replace(cell, label={**cell.label, "group": other.label["group"]})


@dataclass(frozen=True)
class Setup:
    """Hold what the cells of one protocol, network and augmentation share.

    It is hashed once for all of them, because a grid has many cells and few setups.
    """

    key: str
    protocol: "Protocol"
    arch: str
    shown: dict[str, Any]
    machine: dict[str, Any]
    teacher: "TeacherPlan | None" = None


def make_setup(plan: Plan, protocol: "Protocol", arch: str, augment: str) -> Setup:
    """Build the part of a cell's key that does not depend on the subset or the seed."""
    config = plan.config
    precision = resolve_precision(config.precision, plan.device)
    shown: dict[str, Any] = {
        "dataset": plan.train.dataset,
        "protocol": protocol.name,
        "arch": arch,
        "precision": precision_label(precision, config.compile),
        "augment": augment,
        "image_size": config.image_size,
        **_held_out(plan),
    }
    teacher = plan.teacher if protocol.soft else None
    if teacher is not None:
        shown["teacher"] = teacher.name
    machine = {"device": plan.device, "threads": plan.threads if plan.device == "cpu" else None}
    identity = {
        "schema": KEY_SCHEMA,
        "train": plan.train.content_hash,
        "val": plan.val.content_hash,
        "protocol": protocol.model_dump(mode="json"),
        "arch": arch,
        "precision": precision_key(precision, plan.device),
        "augment": augment,
        "image_size": config.image_size,
        **machine,
        # Left out where they are not used: older keys must not change.
        **({} if teacher is None else {"teacher": teacher.identity}),
        **({"compile": True} if config.compile else {}),
    }
    return Setup(content_key(identity), protocol, arch, shown, machine, teacher)


def _held_out(plan: Plan) -> dict[str, float]:
    """Return the axis `holdout` of a sweep on a split; nothing for other sweeps, whose axes must not change."""
    return {} if plan.holdout is None else {"holdout": plan.holdout.share}


def _cells_of(plan: Plan, variant: AnyVariant, protocols: list["Protocol"]) -> Iterable[Cell]:
    config = plan.config
    choices = product(protocols, config.archs, config.augment)
    setups = [make_setup(plan, *choice) for choice in choices]
    for ipc in variant.budgets(config.ipc):
        skip = why_not(plan.train, plan.observer, variant, ipc)
        subsets = plan_subsets(plan, variant, ipc)
        for setup in setups:
            yield from _seeds_of(plan, setup, subsets, skip)


def _seeds_of(plan: Plan, setup: Setup, subsets: dict[int, SubsetPlan], skip: str | None) -> Iterable[Cell]:
    """Generate the cells that differ only in their seed."""
    first = subsets[plan.config.seeds[0]]  # the sets of all seeds agree in everything but seed, key and path
    shown = {**setup.shown, "method": first.variant.name, "ipc": first.ipc}
    views = views_of(plan, first.variant, setup.shown["augment"])
    epochs = setup.protocol.epochs_for(first.images, len(plan.train.classes))
    batch = setup.protocol.batch_for(first.images)
    data = {"train": plan.train.content_hash, "val": plan.val.content_hash}
    axes = content_key({**shown, **data})
    shared = {
        **setup.machine,  # not among the axes: a run on any machine replaces a skipped row
        **first.variant.facts(plan.config.image_size),
        "observer": plan.observer.summary if first.variant.observed else None,
        "group": content_key([setup.key, first.group]),
        "work": work_of(setup.protocol, epochs, first.images * views, sum(plan.val.counts)),
        "batch": batch,
        "steps": epochs * -(-first.images * views // batch),  # rounded up in each epoch
    }
    for seed in plan.config.seeds:
        subset = subsets[seed]
        # A skipped cell has its own key, so that its row cannot stand for a result.
        key = content_key([setup.key, subset.key, seed]) if skip is None else content_key(["skipped", axes, seed])
        label = {**shown, **shared, "seed": seed, "subset": subset.key[:12]}
        axes_of_seed = f"{axes}/{seed}"
        yield Cell(key, axes_of_seed, label, subset, setup.protocol, setup.arch, seed, skip, setup.teacher, views)


def views_of(plan: Plan, variant: AnyVariant, augment: str) -> int:
    """Return the number of visits to each stored image in an epoch, which is known before the set is made."""
    return tile_crop(augment, plan.train.hints if variant.whole_set else variant.hints).views


def plan_subsets(plan: Plan, variant: AnyVariant, ipc: int | None) -> dict[int, SubsetPlan]:
    """Return the compressed set of each training seed; a deterministic method has one for all of them."""
    if not variant.stochastic:
        return dict.fromkeys(plan.config.seeds, _plan_subset(plan, variant, ipc, 0, None))
    group = _plan_subset(plan, variant, ipc, 0, None).key
    return {seed: _plan_subset(plan, variant, ipc, seed, group) for seed in plan.config.seeds}


def _plan_subset(plan: Plan, variant: AnyVariant, ipc: int | None, seed: int, group: str | None) -> SubsetPlan:
    """Describe one compressed set, whose key hashes everything that it depends on; `group` is the key with seed 0."""
    from fastdc.beton import holds_raw

    config, train = plan.config, plan.train
    if ipc is None:
        assert isinstance(variant, Variant)
        raw = holds_raw(config.train) if plan.holdout is None else plan.holdout.holds_raw
        # Part of the key, because results from before 0.2 count raw images at their stored size.
        counted = {"raw_counts_as": "png"} if raw else {}
        identity = {
            "whole_set": variant.stem,
            "version": variant.method.version,
            "train": train.content_hash,
            **counted,
        }
        key = content_key(identity)
        return SubsetPlan(key, key, config.train, variant, None, 0, sum(train.counts), given=True)
    request = subset_request(plan, variant, ipc, seed)
    key, given = request.key, request.given
    path = given or config.workdir / "subsets" / f"{variant.stem}-ipc{ipc}-{key[:12]}.beton"
    return SubsetPlan(key, group or key, path, variant, ipc, seed, request.images, given is not None)


def subset_request(plan: Plan, variant: AnyVariant, ipc: int, seed: int) -> "SubsetRequest | ExternalRequest":
    """Return the request for a compressed set; it is not kept with the cells, because it holds a whole manifest."""
    from fastdc.subsets.request import SubsetRequest

    config = plan.config
    if isinstance(variant, ExternalVariant):
        return variant.request(config, plan.train, ipc)
    return SubsetRequest(
        method=variant.method,
        config=variant.config,
        variant=variant.name,
        train=config.train,
        manifest=plan.train,
        workdir=config.workdir,
        ipc=ipc,
        seed=seed,
        image_size=config.image_size,
        observer=plan.observer,
        teachers=variant.teachers,
        teacher_order=config.teacher_order if variant.needs_order else None,
        precision=config.precision,
        threads=plan.threads,
        device=plan.device,
    )


def work_of(protocol: "Protocol", epochs: int, images: int, val_images: int) -> float:
    """Return the cost of a training in visits to training images, where a validated image counts as a third.

    Args:
        protocol: the training protocol.
        epochs: epochs of the training.
        images: visits to training images in an epoch.
        val_images: images of the validation set.
    """
    validations = sum(protocol.validated(epoch, epochs) for epoch in range(epochs))
    return epochs * images + validations * val_images / 3


def _broken_cells(plan: Plan) -> Iterable[Cell]:
    """Generate one skipped cell for each plug-in that cannot be loaded, so that the table shows it."""
    from fastdc.methods import broken_methods
    from fastdc.train.protocols import get_protocol

    if "all" not in plan.config.methods:
        return
    config = plan.config
    protocol = get_protocol(config.protocol_names[0])
    for name, reason in broken_methods().items():
        label: dict[str, Any] = {
            "dataset": plan.train.dataset,
            "method": name,
            "ipc": config.ipc[0] if config.ipc else None,
            "protocol": protocol.name,
            "arch": config.archs[0],
            "precision": resolve_precision(config.precision, plan.device),
            "augment": config.augment[0],
            "image_size": config.image_size,
            **_held_out(plan),
            "seed": config.seeds[0],
        }
        axes = content_key({**label, "train": plan.train.content_hash})
        label |= {"group": axes, "work": 0.0, "batch": 0, "steps": 0}
        yield Cell(
            content_key({"skipped": axes}), axes, label, None, protocol, config.archs[0], config.seeds[0], reason
        )
