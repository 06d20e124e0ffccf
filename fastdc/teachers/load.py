"""Loading of teachers: train or read the network, and check it against the data set's classes before use."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdc.common.errors import ManifestError, MethodError, TeacherError
from fastdc.common.log import log_message, shows_progress
from fastdc.common.threads import set_compute_threads
from fastdc.nn.weights_facts import read_facts
from fastdc.observe.record_needs import ObserverNeeds
from fastdc.teachers.plan import PRETRAINED_SIDE, TeacherPlan, check_side

if TYPE_CHECKING:
    from fastdc.nn.device import Compute
    from fastdc.teachers.agreement import Agreement
    from fastdc.teachers.network import Teacher

_measured: "dict[tuple[object, ...], Agreement | None]" = {}
"""Agreements by teacher, state of the beton, and side: every cell of a grid needs them."""


def weights_file(plan: TeacherPlan, workdir: Path) -> Path:
    """Return the path of an observer's weights, which may not exist yet."""
    from fastdc.observe.choose_observer import observer_folder
    from fastdc.observe.dynamics_log import WEIGHTS_NAME

    assert plan.observer is not None
    return observer_folder(workdir, plan.train_hash, plan.observer, 0) / WEIGHTS_NAME


def load_teacher(
    plan: TeacherPlan,
    train: Path | None,
    workdir: Path,
    compute: "Compute",
    also: ObserverNeeds | None = None,
    *,
    image_size: int | None = None,
    images: Path | None = None,
) -> "Teacher":
    """Load a teacher, and check its guesses against the classes of some images by the rules of `agreement`.

    An observer that is missing or incomplete is trained first. An observer of this training set that fails the check
    gives a warning on stderr; any other teacher is refused. Another teacher also gives a warning if there are too few
    images to show that it is above chance.

    Args:
        plan: the teacher.
        train: the training set; None forbids training.
        workdir: folder of observers.
        compute: device and precision.
        also: needs of methods that use the same observer, so that one training covers all of them.
        image_size: side in pixels of the images it will see; None for the side it was trained at.
        images: beton to check it on; None takes `train`. If both are None there is no check.

    Raises:
        MethodError: the file is damaged, or holds more than weights, other classes, or NaN. Or a training is needed
            and `train` is None.
        TeacherError: the outputs are in another class order, the guesses are no better than chance, or the network
            does not accept images of this size.
        FastDCError: any error of `observe`.
    """
    guess = image_size or plan.image_size or PRETRAINED_SIDE
    teacher = _load(plan, train, workdir, compute, also, guess)
    side = image_size or teacher.image_size
    check_side(teacher, side)
    images = images or train
    if images is not None:
        _check_agreement(plan, teacher, images, side, compute)
    return teacher


def _load(
    plan: TeacherPlan, train: Path | None, workdir: Path, compute: "Compute", also: ObserverNeeds | None, side: int
) -> "Teacher":
    from fastdc.teachers.build import build_teacher

    if plan.observer is None:
        return build_teacher(plan, compute, side)
    seconds = _observe(plan, train, workdir, also)
    set_compute_threads(compute.threads)  # undoes the observer's own thread count, if it trained just now
    file = weights_file(plan, workdir)
    facts = read_facts(file)
    if facts is None or (facts.arch, facts.classes) != (plan.arch, plan.classes):
        raise MethodError(f"{file}: not the weights of this observer; delete the file, and they are made again")
    return build_teacher(replace(plan, kind="file", file=file, facts=facts), compute, side, seconds)


def _observe(plan: TeacherPlan, train: Path | None, workdir: Path, also: ObserverNeeds | None) -> float:
    """Train the observer if its weights are missing, and return the seconds that its training took."""
    from fastdc.observe.dynamics_log import load_observation

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
    from fastdc.observe.train_observer import complete_records

    wanted = needs if also is None or plan.extra else needs | also  # methods never read an extra teacher
    options: dict[str, Any] = {"for_teacher": True, "extra": plan.extra}
    try:
        (record,) = complete_records(train, workdir, plan.observer, wanted, **options)
    except MethodError:  # the methods' needs may be impossible; a teacher can do without them
        if wanted == needs:
            raise
        (record,) = complete_records(train, workdir, plan.observer, needs, **options)
    return record.seconds()


def _check_agreement(plan: TeacherPlan, teacher: "Teacher", images: Path, side: int, compute: "Compute") -> None:
    from fastdc.teachers.agreement import measure_agreement

    state = images.stat()
    key = (plan.identity, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, side)
    known = key in _measured  # then its warnings were given already
    if not known:
        columns = plan.columns if plan.order is not None else None  # matched by name, the outputs are in order
        _measured[key] = measure_agreement(teacher, images, plan.classes, columns, side, compute)
    found = _measured[key]
    if found is None:
        return
    problem = _problem(plan, found, images, side)
    foreign = not _is_own(plan)
    if problem is not None and foreign:
        raise TeacherError(problem)
    if problem is not None and not known:
        log_message(f"warning: {problem}")
    elif foreign and not found.above_chance and not known:
        log_message(f"warning: {_doubt(plan, found, images)}")
    elif foreign and shows_progress() and not known:
        share, sample = _share(found.right, found), f"{found.images:,} images of {images}"
        log_message(f"teacher {plan.name}: classifies {share} of {sample} correctly")


def _problem(plan: TeacherPlan, found: "Agreement", images: Path, side: int) -> str | None:
    """Return an error message with a remedy for a teacher that fails the check, or None if it passes."""
    sample = f"{found.images:,} images of {images}"
    used = f"{plan.order} order" if plan.order is not None else "data set's order"
    if found.better is not None:
        name, columns, right = found.better
        own = columns == tuple(range(len(columns)))
        better = f"{name} order" if name is not None else "data set's own"
        return (
            f"teacher {plan.name}: its outputs are in another class order: of {sample} it classifies "
            f"{_share(found.right, found)} correctly in the {used}, {_share(right, found)} in the {better}; "
            + _way_out(plan, None if own else name)
        )
    if found.at_chance:
        others = f", nor is it in {' or '.join(found.tried)} order" if found.tried else ""
        return (
            f"teacher {plan.name}: classifies {_share(found.right, found)} of {sample} correctly in the {used}, no "
            f"better than chance or a random order of classes ({100 * found.chance:.1f} % on average){others}; take a "
            f"teacher that was trained on these classes, in one of these orders, for images of about {side} px"
        )
    return None


def _doubt(plan: TeacherPlan, found: "Agreement", images: Path) -> str:
    return (
        f"teacher {plan.name}: classifies {_share(found.right, found)} of {found.images:,} images of {images} "
        f"correctly, chance gives {100 * found.chance:.1f} %; these images do not confirm its classes or "
        "their order; check that it is the right file"
    )


def _way_out(plan: TeacherPlan, name: str | None) -> str:
    if plan.order is None and plan.named:
        return "its class names are in another order than its outputs; make it again with the right names"
    return "leave --teacher-order out" if name is None else f"add --teacher-order {name}"


def _share(right: int, found: "Agreement") -> str:
    return f"{100 * right / found.images:.1f} %"


def _is_own(plan: TeacherPlan) -> bool:
    """Return whether a teacher is an observer of this training set, given by name or by its weights file."""
    from fastdc.observe.dynamics_log import load_observation

    if plan.observer is not None:
        return True
    if plan.facts is None or plan.file is None:
        return False
    try:
        record = load_observation(plan.file.parent)
    except ManifestError:
        return False
    return record is not None and record.weights == plan.file and record.identity.get("train") == plan.train_hash
