"""Make a compressed set: train missing networks, run the method, store its set."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdc.beton import BetonFile, Manifest, check_beton_output
from fastdc.beton.hints import stored_hints
from fastdc.beton.manifest import find_mismatch
from fastdc.beton.missing_manifest import one_use
from fastdc.common.choices import OrderName, Precision
from fastdc.common.errors import ManifestError, MethodError
from fastdc.common.files import check_output
from fastdc.common.locks import locked
from fastdc.common.log import progress_shown
from fastdc.methods import Compressed, MethodConfig, MethodContext
from fastdc.methods.check_result import check_compressed, check_scores
from fastdc.observe import Observation, ObserverConfig
from fastdc.observe.record_needs import WHOLE_SCHEDULE, ObserverNeeds
from fastdc.subsets.list_scores import TrainingLists
from fastdc.subsets.lists import list_path
from fastdc.subsets.request import DEFAULT_IMAGE_SIZE, SubsetRequest
from fastdc.subsets.store_subset import store_compressed, store_list
from fastdc.teachers.load import load_teacher
from fastdc.teachers.resources import Teaching

if TYPE_CHECKING:
    from fastdc.nn.device import Compute


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


@one_use()
def compress_beton(
    method: str,
    train: Path,
    out: Path,
    *,
    ipc: int,
    seed: int = 0,
    image_size: int = DEFAULT_IMAGE_SIZE,
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
    """Compress `train` to `ipc` images per class and store them at `out`; see `make_subset`.

    Args:
        ipc: stored images per class, at least 1.
        seed: subset seed; only stochastic methods depend on it.
        image_size: side S in pixels, at least 8.
        settings: the method's settings.
        workdir: folder of observers and of unfinished images.
        observer: how to train the observer, if the method needs one; None takes `choose_observer`'s.
        also, force: see `make_subset`.
        teacher_order: class order of the outputs of teachers whose files do not name their classes; None for the data
            set's.
        precision, threads: number format and CPU threads of the method's networks, if it runs any.
        show_progress: whether to report progress on stderr.

    Raises:
        FastDCError: see `SubsetRequest.make` and `make_subset`.
    """
    request = SubsetRequest.make(
        method,
        train,
        workdir=workdir,
        ipc=ipc,
        seed=seed,
        image_size=image_size,
        settings=settings,
        observer=observer,
        teacher_order=teacher_order,
        precision=precision,
        threads=threads,
    )
    with progress_shown(show_progress):
        return make_subset(request, out, also=also, force=force)


def make_subset(
    request: SubsetRequest, out: Path, *, also: ObserverNeeds | None = None, force: bool = False
) -> CompressResult:
    """Make a compressed set and store it at `out`, S x S, JPEG q75 4:2:0.

    A selection or mosaic method also writes X.list.tsv beside X.beton: the kept training images with class and, if
    the method scores them, score (high = hard). The whole set (method `full`) is stored byte for byte. A method that
    makes images keeps its progress under the workdir, so a killed call resumes.

    Args:
        also: what other methods will read of the same observer, so that one training records it all.
        force: whether existing files may be replaced.

    Raises:
        MethodError: the method cannot serve the request.
        ManifestError: the training set has changed since the request was made.
        TeacherError: a teacher's outputs do not fit the classes; see `load_teacher`.
        OutputError: `out` exists and `force` is false, or cannot be written.
    """
    check_beton_output(out, force, [request.train])
    check_output(list_path(out), force)
    compute = None
    if request.teachers:
        from fastdc.nn.device import choose_compute  # imports torch, so only if networks run

        compute = choose_compute(request.precision, request.threads)
        request = replace(request, device=compute.device.type)
    if any(plan.is_observer for plan in request.teachers):  # the same training serves as record and as teacher
        also = (also or request.needs) | ObserverNeeds(WHOLE_SCHEDULE)
    with BetonFile(request.train) as beton, _scratch(request) as scratch:
        check_beton_output(out, force, [request.train])  # another process may have written it during the wait
        _check_unchanged(request, beton)
        context = MethodContext(
            labels=beton.labels,
            classes=request.manifest.classes,
            image_size=request.image_size,
            image=beton.decode,
            observations=_observe(request, also),
            teaching=None if compute is None else _teaching(request, compute, scratch, also),
            lists=TrainingLists(request.manifest, beton.labels),
        )
        context, compressed, seconds = _run_method(request, context)
        start = time.monotonic()
        fit = None if request.method.info.whole_set else request.config.fit
        made = {**request.provenance(), "details": compressed.details}
        stored = store_compressed(out, compressed, beton, request.manifest, fit, request.image_size, made, force)
        store_list(out, request.method, compressed, context, request.manifest)
    return CompressResult(stored, {**_networks_cost(request, context), **seconds, "writing": time.monotonic() - start})


def _check_unchanged(request: SubsetRequest, beton: BetonFile) -> None:
    if not request.manifest.structure_hash:  # the kept part of a holdout, planned before its beton was written
        return
    if mismatch := find_mismatch(request.manifest, beton.structure):
        raise ManifestError(f"{request.train}: changed after it was read: {mismatch}; run the command again")


@contextmanager
def _scratch(request: SubsetRequest) -> Iterator[Path]:
    """Yield a folder for the unfinished images of one subset, locked against other processes.

    It is removed once the subset is stored. After a failure its files stay, so that the next call resumes. Only
    methods that run networks get a folder; for others it is not made.
    """
    folder = request.workdir / "making" / request.key[:16]
    if not request.teachers:
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


def _observe(request: SubsetRequest, also: ObserverNeeds | None) -> tuple[Observation, ...]:
    """Return the records that the method reads; they also serve other methods if this observer can."""
    if not request.observed:
        return ()
    from fastdc.observe.train_observer import complete_records  # imports torch, so only if the method reads an observer

    train, needs = (request.train, request.workdir, request.observer), request.needs
    try:
        return complete_records(*train, needs | (also or needs))
    except MethodError:  # needs of other methods that this observer cannot meet must not fail this method
        if also is None or needs | also == needs:
            raise
        return complete_records(*train, needs)


def _teaching(request: SubsetRequest, compute: "Compute", scratch: Path, also: ObserverNeeds | None) -> Teaching:
    """Return the method's networks, trained or loaded; an observer among them also records what `also` names."""
    teachers = tuple(
        load_teacher(plan, request.train, request.workdir, compute, also=also, image_size=request.image_size)
        for plan in request.teachers
    )
    return Teaching(teachers, compute, request.train, scratch)


def _run_method(request: SubsetRequest, context: MethodContext) -> tuple[MethodContext, Compressed, dict[str, float]]:
    """Return the context with the method's scores, its compressed set, and the seconds of both steps.

    Scores and set are checked, because the method may be a plug-in.
    """
    method, config, ipc = request.method, request.config, request.ipc
    assert ipc is not None, "a sweep does not make the whole set"
    start = time.monotonic()
    context = replace(context, scores=method.scores(context, config))
    check_scores(method, context.scores, len(context.labels))
    scored = time.monotonic()
    compressed = _with_crops(config, method.compress(context, config, ipc, request.seed))
    check_compressed(method, config, compressed, context, ipc)
    return context, compressed, {"scoring": scored - start, "selection": time.monotonic() - scored}


def _with_crops(config: MethodConfig, compressed: Compressed) -> Compressed:
    """Return the set with its crop hints replaced by those of `config.augment`, if given."""
    if config.augment is None or not isinstance(compressed, Compressed):  # `check_compressed` refuses any other type
        return compressed
    return replace(compressed, hints=stored_hints(config.augment, compressed.hints))


def _networks_cost(request: SubsetRequest, context: MethodContext) -> dict[str, float]:
    """Return the seconds of the trainings that the method depends on, each counted once.

    A network that is also the observer counts under "observer".
    """
    costs = [observation.cost(request.needs, request.observer.epochs) for observation in context.observations]
    teachers = context.teaching.teachers if context.teaching is not None else ()
    trained = {plan.identity: (teacher, plan) for teacher, plan in zip(teachers, request.teachers, strict=True)}
    seconds = 0.0
    for teacher, plan in trained.values():
        known = costs[0] if plan.is_observer and costs else 0.0  # the teacher is the first of the observer's runs
        seconds += max(teacher.seconds - known, 0.0)
    return {"observer": sum(costs), "teacher": seconds}
