"""Define the command that evaluates a subset."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastdc.cli.common import (
    AUGMENT_HELP,
    LOADER_HELP,
    PRECISION_HELP,
    AllowMissing,
    AsJson,
    LogOption,
    Quiet,
    Seed,
    Settings,
    Teacher,
    TeacherOrder,
    Track,
)
from fastdc.common.choices import EngineChoice, OrderName, Precision
from fastdc.common.errors import ConfigError
from fastdc.common.log import progress_shown
from fastdc.common.text import format_bytes

if TYPE_CHECKING:
    from fastdc.train import EvaluateSettings, EvaluationResult


def evaluate(
    subset: Annotated[Path, typer.Argument(metavar="SUBSET.beton", help="Set to train on.")],
    val: Annotated[Path, typer.Option(metavar="VAL.beton", help="Validation set.")],
    allow_missing_classes: AllowMissing = False,
    protocol: Annotated[
        str, typer.Option(help="hard, soft, another of `fastdc protocols`, or one with changes (hard*epochs=60).")
    ] = "hard",
    settings: Settings = None,
    arch: Annotated[str, typer.Option(help="Network to train from scratch.")] = "resnet18",
    teacher: Teacher = None,
    teacher_order: TeacherOrder = None,
    workdir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of observers and stored labels (soft protocols), and of --track."),
    ] = None,
    seed: Seed = 0,
    augment: Annotated[str, typer.Option(metavar="RULE", help=AUGMENT_HELP)] = "method",
    precision: Annotated[Precision, typer.Option(help=PRECISION_HELP)] = "auto",
    image_size: Annotated[
        int | None, typer.Option(help="Side of the crops in px.  [default: the subset's side]")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 uses all.")] = 0,
    loader: Annotated[EngineChoice, typer.Option(help=LOADER_HELP)] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Loader threads; results do not depend on them.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to save checkpoints to and resume from.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")] = False,
    track: Track = None,
    as_json: AsJson = False,
    log: LogOption = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a network from scratch on a subset and measure its accuracy on the validation set.

    The reported accuracy is that of the last epoch. --set overrides settings of the protocol, and its name shows them.
    Soft protocols take their labels from --teacher, by default the observer that `fastdc observe` trained in --workdir.

    Example:

    \b
    fastdc evaluate pca10.beton --val val.beton --protocol hard --set epochs=60 --json
    fastdc evaluate pca10.beton --val val.beton --protocol soft --workdir runs/first
    """
    from fastdc.common.keys import content_key
    from fastdc.common.settings import parse_settings, split_names
    from fastdc.track import one_run
    from fastdc.track.trackers import check_trackers
    from fastdc.track.watch import watching
    from fastdc.train import EvaluateSettings, get_protocol
    from fastdc.train.evaluation import evaluate

    trackers = check_trackers(split_names(track or ""))
    values = {"seed": seed, "augment": augment, "precision": precision, "image_size": image_size}
    values |= {"threads": threads, "loader": loader, "loader_workers": workers, "compile": compiled, "arch": arch}
    chosen = get_protocol(protocol, parse_settings(settings or []))
    made = EvaluateSettings.make({"protocol": chosen, **values}, "evaluate")
    labels = _soft_labels(subset, val, made, teacher, teacher_order, workdir, quiet)
    labels |= {"allow_missing_classes": allow_missing_classes}
    name = f"{subset.stem} {chosen.name} {arch} seed {seed}"
    dumped = made.model_dump(mode="json")
    key = content_key({"settings": dumped, "subset": str(subset.absolute())})
    shown = {**dumped, "protocol": chosen.name, "subset": str(subset)}
    with progress_shown(not quiet), watching(trackers, workdir or Path()), one_run(name, key, shown) as outcome:
        result = evaluate(subset, val, made, checkpoint=checkpoint, show_progress=not quiet, name=name, **labels)
        outcome |= result.model_dump(mode="json", exclude={"curve", "per_class", "environment"})
    if as_json:
        print(json.dumps(result.model_dump(mode="json"), allow_nan=False))
    else:
        _print_result(result)


def _print_result(result: "EvaluationResult") -> None:
    from fastdc.common.precision import shown_precision

    top5 = "" if result.top5 is None else f", top-5 {result.top5:.2f} %"
    print(f"top-1 {result.top1:.2f} %{top5} after {result.epochs} epochs, {result.steps:,} steps ({result.protocol})")
    empty = result.per_class.count(None)
    if empty:
        print(f"{empty:,} of {len(result.per_class):,} classes have no validation images; their accuracy is null")
    stored = f"{result.images:,} images, {format_bytes(result.image_bytes)}"
    if result.teacher is not None:
        kept = "" if result.labels == "stored" else " if they were stored"
        stored += f", labels by {result.teacher} {format_bytes(result.label_bytes)}{kept}"
    print(f"{stored}; {result.arch}, {shown_precision(result.precision)}, {result.seconds:.0f} s")


def _soft_labels(
    subset: Path,
    val: Path,
    settings: "EvaluateSettings",
    teacher: str | None,
    order: OrderName | None,
    workdir: Path | None,
    quiet: bool,
) -> dict[str, Any]:
    """Return the arguments of `evaluate` that give a soft protocol its labels; none for hard labels."""
    if not settings.protocol.soft:
        for option, value in (("--teacher", teacher), ("--teacher-order", order)):
            if value is not None:
                name = settings.protocol.name
                raise ConfigError(f"{option} {value}: does not apply to protocol {name}, which has hard labels")
        return {}
    from fastdc.beton import describe_beton
    from fastdc.nn.device import choose_compute
    from fastdc.teachers.load import load_teacher
    from fastdc.teachers.names import plan_for_subset
    from fastdc.teachers.plan import check_order_used, check_side
    from fastdc.train.data_pair import training_side

    manifest = describe_beton(subset)
    side = settings.image_size or training_side(subset, manifest)
    plan = plan_for_subset(teacher or "observer", manifest, workdir, order)
    check_order_used(order, [plan])
    check_side(plan, side)
    compute = choose_compute(settings.precision, settings.threads)
    # The teacher is checked on these images. A full training set serves best; a compressed set ("train" in its
    # manifest) takes the validation set. So does a set without a manifest, which may be a compressed one.
    images = val if manifest.inferred or "train" in manifest.made else subset
    with progress_shown(not quiet):
        loaded = load_teacher(plan, None, workdir or Path(), compute, image_size=side, images=images)
    return {"teacher": loaded, "labels_root": workdir / "labels" if workdir is not None else None}
