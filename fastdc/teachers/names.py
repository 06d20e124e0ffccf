"""Teachers by name: parse a name into a plan. `fastdc.teachers.load` builds the network.

Names: `observer` (the workdir's observer, run 0), `observer:ARCH` (the same training of another network),
`FILE.safetensors` (written by `fastdc observe`), `ARCH@FILE` (weights from other programs), `efficientnet_lite0`,
`torchvision:NAME`, `torchvision:NAME@WEIGHTS` and `timm:NAME` (pretrained networks of these packages).

Importing this module imports no torch, and most plans need none. These do, because torchvision or timm must be
consulted: pretrained networks by name, uncommon architectures, and the wordnet order of English class names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.keys import content_key, file_key
from fastdc.nn.arch_names import check_arch, is_own_arch
from fastdc.nn.architectures.timm_models import PREFIX as TIMM_PREFIX
from fastdc.nn.weights_facts import SEEN_IMAGENET, Kind, find_columns, is_archive, lacks_wnids, read_facts
from fastdc.observe.observer_config import ObserverConfig
from fastdc.teachers.class_orders import Columns, OrderName, require_columns
from fastdc.teachers.plan import PRETRAINED_SIDE, TeacherPlan
from fastdc.teachers.pretrained import LITE0, describe_pretrained, imagenet_columns, lite0_file

if TYPE_CHECKING:
    from fastdc.beton import Manifest

TEACHER_VERSION = 1
"""Raised whenever the same weights would give other outputs; part of every teacher's identity."""

OBSERVER, TORCHVISION = "observer", "torchvision:"
LITE0_ARCH = "efficientnet-lite0"
SPECS = (
    f"{OBSERVER}, {OBSERVER}:ARCH, FILE.safetensors, ARCH@FILE, {LITE0}, {TORCHVISION}NAME[@WEIGHTS], {TIMM_PREFIX}NAME"
)
ORDER_UNKNOWN = "its file does not name its classes; they are taken to be the data set's, in {} order"
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".pth.tar", ".bin", ".ckpt", ".safetensors")


def plan_teacher(
    spec: str, manifest: "Manifest", observer: ObserverConfig, order: OrderName | None = None
) -> TeacherPlan:
    """Plan the teacher that a name stands for with a training set.

    Args:
        spec: the teacher's name; see the module's docstring.
        manifest: that of the training set.
        observer: the observer that the name `observer` stands for.
        order: class order of the outputs of a file that does not name its classes; None for the data set's. It also
            applies to ImageNet networks where a data set names the 1000 classes otherwise. Other teachers ignore it.

    Raises:
        ConfigError: the teacher, network, file or package does not exist, or the class names have no such order.
        MethodError: the teacher was trained on other classes, or its file is damaged.
    """
    return plan_for(spec, manifest.content_hash, manifest.classes, observer, order)


def plan_for(
    spec: str, train_hash: str, classes: Sequence[str], observer: ObserverConfig | None, order: OrderName | None = None
) -> TeacherPlan:
    """Plan a teacher as `plan_teacher` does, for a training set known by its hash and classes only."""
    spec, classes = spec.strip(), tuple(classes)
    if spec == OBSERVER or spec.startswith(f"{OBSERVER}:"):
        return _plan_observer(spec, train_hash, classes, observer)
    arch, at, name = spec.partition("@")
    if spec.startswith(TORCHVISION):  # before the test for ARCH@FILE: torchvision:NAME@WEIGHTS has an @ too
        return _plan_pretrained(spec, train_hash, classes, order)
    if at and "/" not in arch:  # not a path with an @ in a folder's name
        return _plan_file(spec, arch, Path(name), train_hash, classes, order)
    if spec.endswith(CHECKPOINT_SUFFIXES):
        return _plan_file(spec, None, Path(spec), train_hash, classes, order)
    if spec == LITE0:
        return _plan_lite0(train_hash, classes, order)
    if spec.startswith(TIMM_PREFIX):
        return _plan_pretrained(spec, train_hash, classes, order)
    hint = f"{OBSERVER}:{spec} trains one of this network; " if _is_arch(spec) else ""
    raise ConfigError(f"teacher '{spec}': no such teacher; {hint}expected {SPECS}")


def _is_arch(name: str) -> bool:
    try:
        check_arch(name)
    except ConfigError:
        return False
    return True


def _plan_observer(
    spec: str, train_hash: str, classes: tuple[str, ...], observer: ObserverConfig | None
) -> TeacherPlan:
    if observer is None:
        raise ConfigError(f"teacher '{spec}': needs --workdir, the folder in which `fastdc observe` keeps observers")
    arch = spec.removeprefix(OBSERVER).removeprefix(":") or observer.arch
    check_arch(arch)
    extra = arch != observer.arch
    config = observer.resolved().model_copy(update={"arch": arch, "runs": 1} if extra else {})
    return TeacherPlan(
        spec=spec,
        name=f"observer ({arch}, {config.epochs} epochs)",
        arch=arch,
        identity=_identity("observer", classes, config.identity(train_hash, 0)),
        observer=config,
        kind="observer",
        train_hash=train_hash,
        classes=classes,
        image_size=config.image_size,
        extra=extra,
    )


def _identity(kind: Kind, classes: tuple[str, ...], weights: object, ordered: Columns | None = None) -> str:
    """Return the content key of the weights, classes and given order, which together determine the outputs used."""
    identity = {"teacher": TEACHER_VERSION, "kind": kind, "classes": list(classes), "weights": weights}
    return content_key(identity if ordered is None else {**identity, "columns": list(ordered)})


def _ordered(order: OrderName | None, classes: tuple[str, ...]) -> Columns | None:
    """Return the columns of a named order, or None where it is the data set's own."""
    columns = None if order is None else require_columns(order, classes)
    return None if columns == tuple(range(len(classes))) else columns


def _name_ordered(name: str, order: OrderName | None) -> str:
    return name if order is None else f"{name} ({order} order)"


def _plan_file(
    spec: str, arch: str | None, file: Path, train_hash: str, classes: tuple[str, ...], order: OrderName | None
) -> TeacherPlan:
    who = f"teacher {file}"
    _check_file(file)
    facts = read_facts(file) if file.suffix == ".safetensors" else None
    if facts is not None and arch not in (None, facts.arch):
        raise ConfigError(f"{who}: its file holds a {facts.arch}, not a {arch}; omit '{arch}@'")
    if facts is None and arch is None:
        raise ConfigError(f"{who}: does not record its network; write ARCH@{file}, for example resnet18@{file}")
    named = facts.arch if facts is not None else str(arch)
    check_arch(named)
    order = order if facts is None else None  # a file that names its classes needs no order
    ordered = _ordered(order, classes)
    return TeacherPlan(
        spec=spec,
        name=_name_ordered(f"{named}@{file.name}", order),
        arch=named,
        identity=_identity("file", classes, {"arch": named, "bytes": file_key(file)}, ordered),
        observer=None,
        kind="file",
        train_hash=train_hash,
        classes=classes,
        file=file,
        facts=facts,
        columns=find_columns(who, facts.classes, classes) if facts is not None else ordered,
        order=order,
        image_size=facts.image_size if facts is not None else None if is_own_arch(named) else PRETRAINED_SIDE,
        note="" if facts is not None else ORDER_UNKNOWN.format(order or "the same"),
    )


def _check_file(file: Path) -> None:
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(f"teacher {file}: {what}, expected a weights file (.safetensors, .pt, .pth); check the path")
    with file.open("rb") as handle:
        head = handle.read(4)
    # A zip archive's directory is at its end, so a truncated copy shows without reading the weights.
    if file.suffix != ".safetensors" and head[:2] == b"PK" and not is_archive(file):
        raise MethodError(f"teacher {file}: not a whole checkpoint, its end is missing; copy or make it again")


def _ordered_imagenet(
    who: str, classes: tuple[str, ...], order: OrderName | None
) -> tuple[Columns | None, OrderName | None]:
    """Return the columns of a network with ImageNet's classes, and the order if it was needed to find them.

    A data set may name ImageNet's 1000 classes otherwise, such as by folders 0 to 999. The order then maps them.
    """
    if order is not None and lacks_wnids(classes):
        return _ordered(order, classes), order
    return imagenet_columns(who, classes), None


def _plan_lite0(train_hash: str, classes: tuple[str, ...], order: OrderName | None) -> TeacherPlan:
    file = lite0_file()
    columns, order = _ordered_imagenet(f"teacher {LITE0}", classes, order)
    return TeacherPlan(
        spec=LITE0,
        name=_name_ordered(LITE0, order),
        arch=LITE0_ARCH,
        identity=_identity("lite0", classes, file_key(file), columns if order else None),
        observer=None,
        kind="lite0",
        train_hash=train_hash,
        classes=classes,
        file=file,
        columns=columns,
        order=order,
        note=SEEN_IMAGENET,
    )


def _plan_pretrained(spec: str, train_hash: str, classes: tuple[str, ...], order: OrderName | None) -> TeacherPlan:
    found = describe_pretrained(spec)
    kind: Kind = "timm" if spec.startswith(TIMM_PREFIX) else "torchvision"
    columns, order = _ordered_imagenet(f"teacher {spec}", classes, order)
    # The weights' address, not the spec, is part of the identity: NAME and NAME@WEIGHTS may be the same network.
    weights = [spec.partition("@")[0], found.weights]
    return TeacherPlan(
        spec=spec,
        name=_name_ordered(found.name, order),
        arch=found.arch,
        identity=_identity(kind, classes, weights, columns if order else None),
        observer=None,
        kind=kind,
        train_hash=train_hash,
        classes=classes,
        columns=columns,
        order=order,
        image_size=found.image_size,
        note=SEEN_IMAGENET,
    )


def plan_for_subset(spec: str, subset: "Manifest", workdir: Path | None, order: OrderName | None = None) -> TeacherPlan:
    """Plan a teacher for training on a compressed set, whose training set is known by its hash only.

    Args:
        subset: manifest of the compressed set, or of a training set itself.
        workdir: folder of observers; needed only for the teachers `observer` and `observer:ARCH`.
        order: as in `plan_teacher`.

    Raises:
        ConfigError, MethodError: as in `plan_teacher`.
        MethodError: `workdir` has no observer of this training set, or the subset's manifest is missing.
    """
    from fastdc.observe.choose_observer import first_observer

    made = subset.made.get("train")
    train_hash = made if isinstance(made, str) else subset.content_hash
    observer = first_observer(workdir, train_hash) if workdir is not None else None
    if observer is None and workdir is not None and spec.partition(":")[0].strip() == OBSERVER:
        if subset.inferred:
            raise MethodError(
                f"teacher '{spec}': the manifest of {subset.source} is missing, which names its training set; copy it "
                "along, or name another --teacher"
            )
        raise MethodError(
            f"teacher '{spec}': {workdir} has no observer of this subset's training set; run `fastdc observe "
            f"TRAIN.beton --workdir {workdir}` first, or name another --teacher"
        )
    return plan_for(spec, train_hash, subset.classes, observer, order)
