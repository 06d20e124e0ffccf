"""Make a stored subset from a method's name: train missing observers, run the method, write the beton."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdc._version import __version__
from fastdc.beton import BetonFile, Manifest, check_beton_output, describe_beton
from fastdc.beton.hints import HINTS
from fastdc.beton.missing_manifest import one_use
from fastdc.beton.sample_order import Order
from fastdc.common.choices import Precision
from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.files import check_output
from fastdc.common.keys import content_key
from fastdc.common.locks import locked
from fastdc.common.log import progress_shown
from fastdc.common.machine import guess_device
from fastdc.common.precision import precision_key, resolve_precision
from fastdc.common.threads import usable_cpus
from fastdc.methods import Compressed, Method, MethodConfig, MethodContext, get_method, variant_name
from fastdc.methods.bases.method import check_budget
from fastdc.methods.bases.method_config import Fit
from fastdc.methods.bases.mosaics import store_mosaics
from fastdc.methods.check_result import check_compressed, check_scores
from fastdc.observe import Observation, ObserverConfig, choose_observer
from fastdc.observe.record_needs import WHOLE_SCHEDULE, ObserverNeeds
from fastdc.subsets.list_files import Combined
from fastdc.subsets.list_scores import TrainingLists
from fastdc.subsets.lists import ImageList, list_path, read_list, write_list
from fastdc.subsets.store_subset import STORAGE_VERSION, store_compressed
from fastdc.teachers.class_orders import OrderName
from fastdc.teachers.load import load_teacher
from fastdc.teachers.names import plan_teacher
from fastdc.teachers.plan import TeacherPlan, check_batch_norm, check_order_used, check_side
from fastdc.teachers.resources import Teaching

if TYPE_CHECKING:
    from fastdc.nn.device import Compute

DEFAULT_IMAGE_SIZE = 224
"""Default side of stored images in pixels."""


@dataclass(frozen=True)
class CompressResult:
    """Description of a stored subset.

    Attributes:
        manifest: manifest of the written beton.
        seconds: wall time by stage. "observer" covers the parts of the record that the method reads, even if they
            existed already. "teacher" is the training of the networks that the method runs; time of the observer
            that counts under "observer" is left out. "scoring" and "selection" follow (for distillation, selection
            is the making of the images). "writing" is decoding, encoding and writing the images.
    """

    manifest: Manifest
    seconds: dict[str, float]


def compress_identity(
    method: str,
    settings: Mapping[str, Any],
    train_content_hash: str,
    ipc: int | None,
    seed: int,
    image_size: int,
    observer: ObserverConfig,
    teachers: Sequence[TeacherPlan] = (),
    machine: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return all inputs that determine a subset, as plain data; its `content_key` names the subset.

    Args:
        ipc: stored images per class; ignored, like `image_size`, by methods that store the whole set.
        seed: subset seed; ignored by methods that are not stochastic.
        teachers: result of `plan_teachers`, for a method that runs networks.
        machine: result of `machine_identity`, on which the images then depend; ignored without teachers.

    Raises:
        MethodError, ConfigError: unknown method or setting.
    """
    chosen = get_method(method)
    config = chosen.configure(settings)
    observed = chosen.observed(config)
    taught = {"teachers": [plan.identity for plan in teachers], "machine": dict(machine or {})} if teachers else {}
    return {
        "storage": STORAGE_VERSION,
        "train": train_content_hash,
        "method": method,
        "version": chosen.version,
        "config": config.identity(),
        "ipc": None if chosen.info.whole_set else ipc,
        "seed": seed if chosen.stochastic(config) else 0,
        "image_size": None if chosen.info.whole_set else image_size,
        "observer": [observer.identity(train_content_hash, run) for run in range(observer.runs)] if observed else None,
        **taught,
    }


def plan_teachers(
    method: Method,
    config: MethodConfig,
    train: Path,
    manifest: Manifest,
    workdir: Path,
    observer: ObserverConfig,
    order: OrderName | None = None,
) -> tuple[TeacherPlan, ...]:
    """Return the networks that a method runs, checked without loading them.

    Raises:
        MethodError, ConfigError: a network is unknown or has other classes, or its file is missing.
    """
    return tuple(plan_teacher(spec, manifest, observer, order) for spec in method.teachers(config))


def check_teachers(method: Method, plans: Sequence[TeacherPlan], image_size: int) -> None:
    """Refuse, before any training, teachers that reject this image size or lack a BatchNorm that the method needs.

    Raises:
        MethodError: a teacher does not fit; the message names it.
    """
    for plan in plans:
        check_side(plan, image_size)
        if "bn_statistics" in method.info.needs:
            check_batch_norm(plan)


def machine_identity(precision: Precision, threads: int, device: str | None = None) -> dict[str, Any]:
    """Return what computed values depend on besides their inputs: device, precision and threads.

    Threads matter only on the CPU, where sums over another number of threads round differently.

    Args:
        threads: CPU threads; 0 takes all usable ones.
        device: "cpu" or "cuda"; None detects it without importing torch.
    """
    device = device or guess_device()
    resolved = resolve_precision(precision, device)
    return {
        "device": device,
        "precision": precision_key(resolved, device),
        "threads": threads or usable_cpus() if device == "cpu" else None,
    }


@one_use()
def compress_beton(
    method: str,
    train: Path,
    out: Path,
    *,
    ipc: int,
    seed: int = 0,
    image_size: int = 224,
    settings: Mapping[str, Any] | None = None,
    workdir: Path,
    observer: ObserverConfig | None = None,
    also: ObserverNeeds | None = None,
    teacher_order: OrderName | None = None,
    precision: Precision = "auto",
    threads: int = 0,
    force: bool = False,
    show_progress: bool = False,
) -> CompressResult:
    """Compress `train` to `ipc` images per class and store them at `out`, S x S, JPEG q75 4:2:0.

    A selection or mosaic method also writes X.list.tsv beside X.beton: the kept training images with class and, if
    the method scores them, score (high = hard). The whole set (method `full`) is stored byte for byte. A method that
    makes images keeps its progress under `workdir`, so a killed call resumes.

    Args:
        ipc: stored images per class, at least 1.
        seed: subset seed; only stochastic methods depend on it.
        image_size: side S in pixels, at least 8.
        settings: the method's settings.
        workdir: folder of observers and of unfinished images.
        observer: how to train the observer, if the method needs one; None takes `choose_observer`'s.
        also: what other methods will read of the same observer, so that one training records it all.
        teacher_order: class order of the outputs of teachers whose files do not name their classes; None for the data
            set's.
        precision, threads: number format and CPU threads of the method's networks, if it runs any.

    Raises:
        MethodError: unknown method, IPC out of range for the smallest class.
        TeacherError: a teacher's outputs do not fit the classes; see `load_teacher`.
        ConfigError: unknown setting or value out of range.
        OutputError: `out` exists and `force` is false, or cannot be written.
    """
    chosen = get_method(method)
    config = chosen.configure(settings or {})
    check_sizes(method, ipc, image_size)
    check_beton_output(out, force, [train])
    check_output(list_path(out), force)
    manifest = describe_beton(train)
    check_budget(chosen, config, manifest.classes, manifest.counts, ipc)
    if observer is None:
        observer = choose_observer(train, manifest.content_hash, workdir, defaults={"image_size": image_size})
    check_observer(chosen, config, observer)
    plans = plan_teachers(chosen, config, train, manifest, workdir, observer, teacher_order)
    check_order_used(teacher_order, plans)
    check_teachers(chosen, plans, image_size)
    compute = _choose_compute(precision, threads) if plans else None
    machine = machine_identity(precision, threads, compute.device.type if compute is not None else None)
    identity = compress_identity(
        method, settings or {}, manifest.content_hash, ipc, seed, image_size, observer, plans, machine
    )
    needs = chosen.observer_needs(config)
    if any(plan.is_observer for plan in plans):  # the same training serves as record and as teacher
        also = (also or needs) | ObserverNeeds(WHOLE_SCHEDULE)
    made = {
        "tool": "fastdc",
        "version": __version__,
        "command": "compress",
        **identity,
        "variant": variant_name(method, settings or {}),
        **({} if teacher_order is None else {"teacher_order": teacher_order}),
    }
    with (
        progress_shown(show_progress),
        BetonFile(train) as beton,
        _scratch(workdir, identity, keep=bool(plans)) as scratch,
    ):
        check_beton_output(out, force, [train])  # another process may have written it during the wait for the lock
        observed = chosen.observed(config)
        observations = _observe(chosen, train, workdir, observer, needs, also, show_progress) if observed else ()
        context = MethodContext(
            labels=beton.labels,
            classes=manifest.classes,
            image_size=image_size,
            image=beton.decode,
            observations=observations,
            teaching=_teaching(plans, train, workdir, compute, scratch, also, image_size),
            lists=TrainingLists(manifest, beton.labels),
        )
        context, compressed, seconds = _run_method(chosen, config, context, ipc, seed)
        start = time.monotonic()
        fit = None if chosen.info.whole_set else config.fit
        made["details"] = compressed.details
        stored = store_compressed(out, compressed, beton, manifest, fit, image_size, made, force)
        _keep_list(out, chosen, compressed, context, manifest)
    cost = {**_networks_cost(context, plans, needs, observer), **seconds, "writing": time.monotonic() - start}
    return CompressResult(stored, cost)


def check_sizes(method: str, ipc: int, image_size: int) -> None:
    """Refuse an IPC or image size that no method supports.

    Raises:
        MethodError: fewer than one image per class.
        ConfigError: images too small.
    """
    if ipc < 1:
        raise MethodError(f"method {method}: ipc={ipc}; expected at least 1 image per class")
    if image_size < 8:
        raise ConfigError(f"image_size={image_size}: expected at least 8 px")


def _keep_list(out: Path, method: Method, compressed: Compressed, context: MethodContext, manifest: Manifest) -> None:
    """Write X.list.tsv of kept or tiled images beside X.beton; for synthesised images, remove a stale one."""
    if compressed.mosaic is not None or (compressed.sources.shape[1] > 0 and method.info.family != "distillation"):
        combined = Combined.of(method, compressed, context.image_size)
        kept = compressed.sources.ravel().tolist()
        write_list(list_path(out), manifest, context.labels, kept, context.scores, combined)
    else:
        list_path(out).unlink(missing_ok=True)


def _run_method(
    method: Method, config: MethodConfig, context: MethodContext, ipc: int, seed: int
) -> tuple[MethodContext, Compressed, dict[str, float]]:
    """Return the context with the method's scores, its compressed set, and the seconds of both steps.

    Scores and set are checked, because the method may be a plug-in.
    """
    start = time.monotonic()
    context = replace(context, scores=method.scores(context, config))
    check_scores(method, context.scores, len(context.labels))
    scored = time.monotonic()
    compressed = with_crops(method, config, method.compress(context, config, ipc, seed))
    check_compressed(method, config, compressed, context, ipc)
    return context, compressed, {"scoring": scored - start, "selection": time.monotonic() - scored}


def with_crops(method: Method, config: MethodConfig, compressed: Compressed) -> Compressed:
    """Return the set with its crop hints replaced by those of `config.augment`, if given."""
    if config.augment is None or not isinstance(compressed, Compressed):  # `check_compressed` refuses any other type
        return compressed
    others = {name: value for name, value in compressed.hints.items() if name not in HINTS}
    return replace(compressed, hints=others | method.training_crop(config).hints)


@contextmanager
def _scratch(workdir: Path, identity: Mapping[str, Any], keep: bool) -> Iterator[Path]:
    """Yield a folder for the unfinished images of one subset, locked against other processes.

    It is removed once the subset is stored. After a failure its files stay, so that the next call resumes.

    Args:
        keep: whether the method needs the folder; False only yields its path.
    """
    folder = workdir / "making" / content_key(dict(identity))[:16]
    if not keep:
        yield folder
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder.with_suffix(".lock")
    with locked(lock):  # processes that make the same subset take turns
        folder.mkdir(exist_ok=True)
        try:
            yield folder
            shutil.rmtree(folder)
        finally:
            if not folder.exists() or not any(folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)  # while held: a waiting process notices and makes a new lock file


def _choose_compute(precision: Precision, threads: int) -> "Compute":
    from fastdc.nn.device import choose_compute  # imports torch, so only if networks run

    return choose_compute(precision, threads)


def _teaching(
    plans: Sequence[TeacherPlan],
    train: Path,
    workdir: Path,
    compute: "Compute | None",
    scratch: Path,
    also: ObserverNeeds | None,
    image_size: int,
) -> Teaching | None:
    """Return the method's networks, trained or loaded; None if it runs none.

    An observer among them also records what `also` names.
    """
    if compute is None:
        return None
    teachers = tuple(load_teacher(plan, train, workdir, compute, also, image_size=image_size) for plan in plans)
    return Teaching(teachers, compute, train, scratch)


def _networks_cost(
    context: MethodContext, plans: Sequence[TeacherPlan], needs: ObserverNeeds, observer: ObserverConfig
) -> dict[str, float]:
    """Return the seconds of the trainings that the method depends on, each counted once.

    A network that is also the observer counts under "observer".
    """
    observed = sum(observation.cost(needs, observer.epochs) for observation in context.observations)
    teachers = context.teaching.teachers if context.teaching is not None else ()
    trained = {plan.identity: (teacher, plan) for teacher, plan in zip(teachers, plans, strict=True)}
    seconds = 0.0
    for teacher, plan in trained.values():
        known = plan.is_observer and context.observations  # the teacher is the first of the observer's runs
        counted = context.observations[0].cost(needs, observer.epochs) if known else 0.0
        seconds += max(teacher.seconds - counted, 0.0)
    return {"observer": observed, "teacher": seconds}


@one_use()
def compress_list(
    source: Path,
    train: Path,
    out: Path,
    *,
    image_size: int | None = None,
    fit: Fit | None = None,
    index_order: Order = "imagefolder",
    force: bool = False,
) -> Manifest:
    """Store the training images that a list names, in the list's order, as `compress_beton` stores them.

    A list of mosaics (PCA's) makes the mosaics again, hints included. The bytes equal those of the set beside the
    list. X.list.tsv is rewritten beside `out`, so that no list of an earlier subset stays. If that file is `source`
    itself, it is left untouched.

    Args:
        source: the list; see `fastdc.subsets.lists.read_list`.
        image_size: side S in pixels; None takes that of a list of mosaics, else 224.
        fit: how an image becomes S x S, or fills its tile; None takes that of a list of mosaics, else "crop".
        index_order: numbering of the indices; see `read_list`.

    Raises:
        MethodError: an entry of the list is not usable; names its line.
        ConfigError: the list cannot be read, or packed mosaics are requested at another size.
        OutputError: `out` exists and `force` is false, or cannot be written.
    """
    check_beton_output(out, force, [train, source])
    listed = list_path(out)
    own = listed.exists() and source.exists() and listed.samefile(source)
    if not own:
        check_output(listed, force)
    manifest = describe_beton(train)
    with BetonFile(train) as beton:
        found = read_list(source, manifest, beton.labels, index_order)
        size = image_size or (found.combined.image_size if found.combined is not None else DEFAULT_IMAGE_SIZE)
        _check_side(source, found, size)
        compressed = _from_list(source, found, beton, size, fit)
        mosaic = compressed.mosaic
        made = {
            "tool": "fastdc",
            "version": __version__,
            "command": "compress from-list",
            "storage": STORAGE_VERSION,
            "train": manifest.content_hash,
            "list": content_key(found.sources.tolist() if mosaic else found.sources.ravel().tolist()),
            "fit": mosaic.fit if mosaic else fit or "crop",
            "image_size": size,
            "variant": "from-list",
        } | ({"grid": mosaic.grid} if mosaic else {})
        stored = store_compressed(out, compressed, beton, manifest, fit or "crop", size, made, force)
        if not own:
            combined = found.combined
            if combined is not None and mosaic is not None:
                combined = combined.model_copy(update={"image_size": size, "fit": mosaic.fit})
            write_list(listed, manifest, beton.labels, found.sources.ravel().tolist(), None, combined)
    return stored


def _check_side(source: Path, found: ImageList, size: int) -> None:
    """Refuse another size for packed mosaics: their side and byte budget belong to the recorded size."""
    combined = found.combined
    if combined is not None and combined.side is not None and size != combined.image_size:
        raise ConfigError(
            f"{source}: packed for --image-size {combined.image_size}, found {size}; leave --image-size out, or run "
            f"fastdc compress {combined.method} at {size}"
        )


def _from_list(source: Path, found: ImageList, beton: BetonFile, image_size: int, fit: Fit | None) -> Compressed:
    """Return the images of a list as a compressed set: unchanged, or combined into mosaics."""
    labels = beton.labels[found.sources[:, 0]]
    if found.combined is None:
        return Compressed(labels, found.sources)
    mosaic = found.combined.mosaic(source, fit)
    images = partial(store_mosaics, beton.decode, found.sources, image_size, mosaic)
    return Compressed(labels, found.sources, images=images, hints=found.combined.hints, mosaic=mosaic)


def check_observer(method: Method, config: MethodConfig, observer: ObserverConfig) -> None:
    """Refuse, before any training, a method whose epochs or windows do not fit the observer's schedule.

    Raises:
        MethodError: the method reads later epochs than the observer has, or fewer epochs than its windows need.
    """
    needs = method.observer_needs(config)
    needed = max(needs.epochs, needs.tdds)
    if needed > observer.epochs:
        raise MethodError(
            f"method {method.info.name}: reads the observer's epochs up to {needed}, its schedule has "
            f"{observer.epochs}; lower last_epoch or raise the observer's epochs"
        )
    read, shortest = needed if needed > 0 else observer.epochs, method.shortest_log(config)
    if read < shortest:
        raise MethodError(
            f"method {method.info.name}: its windows need {shortest} epochs of the observer, it reads {read}; "
            "raise the observer's epochs or last_epoch, or lower the window"
        )


def _observe(
    method: Method,
    train: Path,
    workdir: Path,
    observer: ObserverConfig,
    needs: ObserverNeeds,
    also: ObserverNeeds | None,
    show_progress: bool,
) -> tuple[Observation, ...]:
    """Return the records that the method reads; they also serve other methods if this observer can."""
    from fastdc.observe.train_observer import observe  # imports torch, so only if the method reads an observer

    try:
        return observe(train, workdir, observer, needs=needs | (also or needs), show_progress=show_progress)
    except MethodError:  # needs of other methods that this observer cannot meet must not fail this method
        if also is None or needs | also == needs:
            raise
        return observe(train, workdir, observer, needs=needs, show_progress=show_progress)
