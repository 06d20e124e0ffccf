"""Define the commands on data: write and verify betons, observe, compress, evaluate."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastdc.cli.common import (
    AUGMENT_HELP,
    PRECISION_HELP,
    AllowMissing,
    Encoding,
    Engine,
    Force,
    IndexOrder,
    Log,
    LogOption,
    ObserverSettings,
    OnError,
    Precision,
    Quiet,
    Seed,
    Settings,
    Teacher,
    TeacherOrder,
    Track,
    Train,
    Workdir,
    say_error,
)
from fastdc.common.errors import ConfigError
from fastdc.common.files import prepare_workdir
from fastdc.common.log import progress_shown, say
from fastdc.common.text import plain

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fastdc.beton import Manifest
    from fastdc.teachers.class_orders import OrderName
    from fastdc.train import EvaluateSettings


def write_beton_command(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder, tar or zip of one, or parquet shards.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.beton", help="File to write.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="Which split to write, where SOURCE has splits.")] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Shrink the shorter side to N px; never enlarges.")
    ] = None,
    encoding: Annotated[
        Encoding | None,
        typer.Option(help="keep: JPEG bytes untouched (default); jpg (default with --resolution); raw."),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="JPEG quality of --encoding jpg.  [default: 90]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; the file is the same for any number.")] = None,
    on_error: Annotated[
        OnError, typer.Option(help="fail: stop at an unreadable image; skip: count it.")
    ] = OnError.fail,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names classes 0, 1, ... of folders or shards: a .beton, its .json, or a text file, one per line.",
        ),
    ] = None,
    allow_missing_classes: Annotated[
        bool,
        typer.Option(
            "--allow-missing-classes", help="Keep classes without images: empty folders, or with --classes none."
        ),
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write images laid out as class/img or split/class/img, or parquet shards, into one FFCV file.

    The manifest OUT.json beside it lists classes, counts, conversions, skipped files and a hash of every sample.

    Example:

    \b
    fastdc write-beton photos.tar train.beton --split train --resolution 256
    """
    from fastdc.beton import write_beton

    if quality is not None and encoding is not Encoding.jpg and (encoding is not None or resolution is None):
        say("--quality changes nothing here: it is that of --encoding jpg (the default with --resolution)")
    made = write_beton(
        source,
        out,
        split=split,
        classes=classes,
        resolution=resolution,
        encoding=encoding.value if encoding else None,
        quality=quality,
        workers=workers,
        on_error=on_error.value,
        allow_missing_classes=allow_missing_classes,
        force=force,
        show_progress=not quiet,
    )
    print(f"{out}: {len(made.ids):,} images, {len(made.classes):,} classes, {made.image_bytes / 1e6:,.1f} MB of images")
    changed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(made.converted.items()))
    if changed:
        print(f"converted to RGB: {changed}")
    for line in (*class_lines(made), *skipped_lines(made)):
        print(line)
    if made.made.get("encoding") == "keep":
        print(f"JPEG images were not decoded; fastdc verify-beton {out} --deep decodes all")


def class_lines(made: "Manifest") -> list[str]:
    """Return a line for each surprise about the classes: numbers in place of names, or classes without images."""
    lines = []
    if made.made.get("class_names") == "numbers":
        last = made.classes[-1]
        lines.append(
            f"classes are called {made.classes[0]}..{last}: the shards do not name them; a validation set of other "
            "names needs the same ones here: --classes VAL.beton"
        )
    empty = [name for name, count in zip(made.classes, made.counts, strict=True) if count == 0]
    if empty:
        lines.append(plain(f"{len(empty):,} of {len(made.classes):,} classes have no images, the first is {empty[0]}"))
    return lines


def skipped_lines(made: "Manifest") -> list[str]:
    """Return one line for unreadable images and one for files that are not images, each with its first example."""
    names = {"unreadable": "unreadable images", "not_image": "files that are not images"}
    counts = Counter(item.kind for item in made.skipped)
    first = {item.kind: item for item in reversed(made.skipped)}
    return [
        plain(f"skipped: {counts[kind]:,} {name}, first {first[kind].path} ({first[kind].reason})")
        for kind, name in names.items()
        if kind in first
    ]


def verify_beton_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The beton to check.", show_default=False)],
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every sample and compare its hash; reads it all.")
    ] = False,
) -> None:
    """Check a beton for truncation, damaged tables, bad labels and a manifest of another file.

    Exit code 0 when sound. Exit code 2 otherwise, with one line for each problem.

    Example:

    \b
    fastdc verify-beton train.beton --deep
    """
    from fastdc.beton import verify_beton

    problems = verify_beton(file, deep)
    for problem in problems:
        sample = "" if problem.index is None else f" sample {problem.index}"
        name = f" ({problem.id})" if problem.id else ""
        say_error(f"{file}: {problem.section}:{sample}{name} {problem.message}".replace(":  ", ": "))
    if problems:
        raise typer.Exit(2)
    print(f"{file}: sound{'' if deep else ' (structure; --deep also decodes every sample)'}")


def observe_command(
    train: Train,
    workdir: Workdir,
    arch: Annotated[str | None, typer.Option(help="Network to train.  [default: resnet18]", show_default=False)] = None,
    seed: Seed = 0,
    runs: Annotated[int, typer.Option(min=1, help="Independent trainings; scores average over them.")] = 1,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side of the training crops in px.  [default: the images' median shorter side, at most 224]"),
    ] = None,
    stop_after: Annotated[int | None, typer.Option(min=1, help="Stop after N epochs of the schedule.")] = None,
    settings: Settings = None,
    log: LogOption = Log.auto,
    quiet: Quiet = False,
) -> None:
    """Train the observer once on the full set and keep every sample's dynamics for the methods that read them.

    Once its whole schedule is done, its weights are kept too, as a teacher for methods and soft labels
    (--teacher observer). Records are found by content, so a second call with the same data and settings returns at
    once. A killed training resumes.

    Example:

    \b
    fastdc observe train.beton --workdir runs/first --arch resnet18 --set epochs=60
    """
    from fastdc.beton import describe_beton
    from fastdc.common.settings import parse_settings
    from fastdc.observe import choose_observer
    from fastdc.observe.record_needs import WHOLE_SCHEDULE, ObserverNeeds
    from fastdc.observe.train_observer import observe
    from fastdc.sweep.plan_checks import merge_settings

    options = {"arch": arch, "image_size": image_size}
    chosen = {key: value for key, value in options.items() if value is not None}
    given: dict[str, Any] = {"seed": seed, "runs": runs} | merge_settings(
        "the observer", chosen, parse_settings(settings or [])
    )
    config = choose_observer(train, describe_beton(train).content_hash, workdir, given=given)
    prepare_workdir(workdir)
    needs = ObserverNeeds(WHOLE_SCHEDULE, weights=True) if stop_after is None else None
    for record in observe(train, workdir, config, needs=needs, stop_after=stop_after, show_progress=not quiet):
        weights = f"; weights for --teacher: {record.weights}" if record.weights is not None else ""
        done = f"{record.epochs} epochs of {record.num_samples:,} samples, {record.seconds():,.0f} s"
        print(f"{record.folder}: {done}{weights}")


def compress_command(
    method: Annotated[
        str,
        typer.Argument(metavar="METHOD", help="Name or variant (el2n[keep=hard]), or from-list.", show_default=False),
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="TRAIN.beton", help="Training set; from-list: LIST TRAIN.beton.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="SUBSET.beton", help="File to write.", show_default=False)],
    ipc: Annotated[int | None, typer.Option(min=1, help="Stored images per class.", show_default=False)] = None,
    workdir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for observers and results.", show_default=False)
    ] = None,
    seed: Seed = 0,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=8,
            help="Side of the stored images in px.  [default: 224; from-list: that of a list of mosaics]",
            show_default=False,
        ),
    ] = None,
    index_order: Annotated[
        IndexOrder | None,
        typer.Option(
            help="from-list: what indices count.  [default: imagefolder, torchvision's; own: the beton's images]",
            show_default=False,
        ),
    ] = None,
    settings: Settings = None,
    observer: ObserverSettings = None,
    teacher_order: TeacherOrder = None,
    precision: Annotated[
        Precision, typer.Option(help=f"Of networks that the method runs: {PRECISION_HELP}")
    ] = Precision.auto,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of such networks; 0 takes all.")] = 0,
    force: Force = False,
    log: LogOption = Log.auto,
    quiet: Quiet = False,
) -> None:
    """Compress a training set to IPC images per class and write them as a beton.

    Methods that read training dynamics, or use the observer as a teacher, first run `fastdc observe` if its result
    is missing in --workdir. A killed distillation resumes. Other methods also write SUBSET.list.tsv beside
    SUBSET.beton, with id, class and score (high = hard) of the kept images. `from-list LIST TRAIN.beton`
    stores the images that a list names. Such a list, made by fastdc or elsewhere, has one id, path or index per line,
    optionally with its class; or it holds indices as .npy. A list of mosaics makes the mosaics again.

    Example:

    \b
    fastdc compress pca train.beton --ipc 10 --out pca10.beton --workdir runs/first --set grid=2
    fastdc compress sre2l train.beton --ipc 10 --out sre2l10.beton --workdir runs/first --set preset=cpu
    fastdc compress from-list kept.txt train.beton --out kept.beton
    """
    expected = ["LIST", "TRAIN.beton"] if method == "from-list" else ["TRAIN.beton"]
    if len(inputs) != len(expected):
        found = " ".join(map(str, inputs))
        raise ConfigError(f"compress {method}: got {found}, expected {' '.join(expected)}")
    if method == "from-list":
        if ipc is not None or observer or teacher_order:
            given = "--ipc" if ipc is not None else "--observer" if observer else "--teacher-order"
            raise ConfigError(f"compress from-list: {given} has no meaning, the list says what is kept")
        _compress_list(inputs[0], inputs[1], out, image_size, settings, index_order or IndexOrder.imagefolder, force)
        return
    if index_order is not None:
        raise ConfigError(
            f"compress {method}: --index-order {index_order} has no meaning, only from-list reads indices"
        )
    if ipc is None or workdir is None:
        missing = "--ipc" if ipc is None else "--workdir"
        raise ConfigError(f"compress {method}: {missing} is missing")
    options: dict[str, Any] = {"ipc": ipc, "seed": seed, "image_size": image_size or 224, "threads": threads}
    options |= {"precision": precision.value, "teacher_order": teacher_order and teacher_order.value}
    _compress(method, inputs[0], out, workdir, settings, observer, {**options, "force": force}, quiet)


def _compress_list(
    source: Path,
    train: Path,
    out: Path,
    image_size: int | None,
    settings: list[str] | None,
    index_order: IndexOrder,
    force: bool,
) -> None:
    from fastdc.common.settings import parse_settings
    from fastdc.methods import MethodConfig
    from fastdc.subsets.compress import compress_list

    given = parse_settings(settings or [])
    config = MethodConfig.make(given, "compress from-list")
    fit = config.fit if "fit" in given else None
    made = compress_list(source, train, out, image_size=image_size, fit=fit, index_order=index_order.value, force=force)
    print(f"{out}: {len(made.ids):,} images, {made.image_bytes:,} bytes")
    empty = [name for name, count in zip(made.classes, made.counts, strict=True) if count == 0]
    if empty:
        found = f"{len(empty):,} of {len(made.classes):,} classes have no image in the list"
        print(plain(f"{found}, the first is {empty[0]}"))


def _compress(
    method: str,
    train: Path,
    out: Path,
    workdir: Path,
    settings: list[str] | None,
    observer: list[str] | None,
    options: dict[str, Any],
    quiet: bool,
) -> None:
    """Run `compress_beton` with these options, after every check that needs no training."""
    from fastdc.beton import describe_beton
    from fastdc.common.settings import parse_settings
    from fastdc.methods import get_method, parse_variant
    from fastdc.methods.bases.method import check_budget
    from fastdc.observe.choose_observer import choose_observer, tell_observer
    from fastdc.subsets.compress import check_observer, compress_beton
    from fastdc.sweep.plan_checks import merge_settings
    from fastdc.teachers.names import OBSERVER

    name, own = parse_variant(method)
    values = merge_settings(f"method {name}", own, parse_settings(settings or []))
    given = parse_settings(observer or [])
    described, recipe = describe_beton(train), get_method(name)
    config = recipe.configure(values)
    reads_observer = recipe.observed(config) or OBSERVER in recipe.teachers(config)
    chosen = None
    if given or reads_observer:
        defaults = {"image_size": options["image_size"]}
        chosen = choose_observer(train, described.content_hash, workdir, given, defaults)
    check_budget(recipe, config, described.classes, described.counts, options["ipc"])
    if chosen is not None and reads_observer:
        check_observer(recipe, config, chosen)
    prepare_workdir(workdir)
    if chosen is not None and reads_observer and not quiet:
        tell_observer(described.content_hash, workdir, chosen)
    made = compress_beton(
        name,
        train,
        out,
        settings=values,
        workdir=workdir,
        observer=chosen,
        show_progress=not quiet,
        **options,
    )
    seconds = ", ".join(f"{part} {value:.1f} s" for part, value in made.seconds.items())
    print(f"{out}: {len(made.manifest.ids):,} images, {made.manifest.image_bytes:,} bytes ({seconds})")


def evaluate_command(
    subset: Annotated[Path, typer.Argument(metavar="SUBSET.beton", help="What to train on.", show_default=False)],
    val: Annotated[Path, typer.Option(metavar="VAL.beton", help="Validation set.", show_default=False)],
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
    precision: Annotated[Precision, typer.Option(help=PRECISION_HELP)] = Precision.auto,
    image_size: Annotated[int | None, typer.Option(help="Side of crops in px; default: the subset's side.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes all.")] = 0,
    loader: Annotated[Engine, typer.Option(help="How batches are made; device needs CUDA.")] = Engine.auto,
    workers: Annotated[int | None, typer.Option(min=1, help="Loader threads; changes no result.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Resume from, and save to, this file.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    track: Track = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    log: LogOption = Log.auto,
    quiet: Quiet = False,
) -> None:
    """Train a network from scratch on a subset and measure it on the validation set.

    The reported accuracy is that of the last epoch. --set overrides settings of the protocol, and its name then shows
    them. Soft protocols take their labels from --teacher, by default the observer that `fastdc observe` trained in
    --workdir.

    Example:

    \b
    fastdc evaluate pca10.beton --val val.beton --protocol hard --set epochs=60 --json
    fastdc evaluate pca10.beton --val val.beton --protocol soft --workdir runs/first
    """
    from fastdc.common.precision import shown_precision
    from fastdc.common.settings import parse_settings
    from fastdc.track.trackers import check_trackers
    from fastdc.track.watch import watching
    from fastdc.train import EvaluateSettings, get_protocol
    from fastdc.train.evaluation import evaluate

    trackers = check_trackers((track or "").replace(" ", "").strip(",").split(",") if track else ())
    values = {"seed": seed, "augment": augment, "precision": precision.value, "image_size": image_size}
    values |= {"threads": threads, "loader": loader.value, "loader_workers": workers, "compile": compiled, "arch": arch}
    chosen = get_protocol(protocol, parse_settings(settings or []))
    made = EvaluateSettings.make({"protocol": chosen, **values}, "evaluate")
    order: OrderName | None = teacher_order.value if teacher_order is not None else None
    labels = _soft_labels(subset, val, made, teacher, order, workdir, quiet)
    labels |= {"allow_missing_classes": allow_missing_classes}
    name = f"{subset.stem} {chosen.name} {arch} seed {seed}"
    with watching(trackers, workdir or Path(), not quiet), _one_run(name, subset, made) as told:
        result = evaluate(subset, val, made, checkpoint=checkpoint, show_progress=not quiet, name=name, **labels)
        told |= result.model_dump(mode="json", exclude={"curve", "per_class", "environment"})
    if as_json:
        print(json.dumps(result.model_dump(mode="json"), allow_nan=False))
        return
    top5 = "" if result.top5 is None else f", top-5 {result.top5:.2f} %"
    print(f"top-1 {result.top1:.2f} %{top5} after {result.epochs} epochs, {result.steps:,} steps ({result.protocol})")
    empty = result.per_class.count(None)
    if empty:
        print(f"{empty:,} of {len(result.per_class):,} classes have no validation images; their accuracy is null")
    stored = f"{result.images:,} images, {result.image_bytes:,} bytes"
    if result.teacher is not None:
        kept = "" if result.labels == "stored" else " if they were stored"
        stored += f", labels by {result.teacher} {result.label_bytes:,} bytes{kept}"
    print(f"{stored}; {result.arch}, {shown_precision(result.precision)}, {result.seconds:.0f} s")


def _one_run(name: str, subset: Path, settings: "EvaluateSettings") -> "AbstractContextManager[dict[str, Any]]":
    """Publish the events of an evaluation outside a sweep to the trackers."""
    from fastdc.common.keys import content_key
    from fastdc.track import one_run

    dumped = settings.model_dump(mode="json")
    labels = {**dumped, "protocol": settings.protocol.name, "subset": str(subset)}
    return one_run(name, content_key({"settings": dumped, "subset": str(subset.absolute())}), labels)


def _soft_labels(
    subset: Path,
    val: Path,
    settings: "EvaluateSettings",
    teacher: str | None,
    order: "OrderName | None",
    workdir: Path | None,
    quiet: bool,
) -> dict[str, Any]:
    """Return the arguments of `evaluate` that give a soft protocol its labels; none for hard labels."""
    if not settings.protocol.soft:
        for option, value in (("--teacher", teacher), ("--teacher-order", order)):
            if value is not None:
                name = settings.protocol.name
                raise ConfigError(f"{option} {value}: has no meaning for protocol {name}, whose labels are hard")
        return {}
    from fastdc.beton import describe_beton
    from fastdc.nn.device import choose_compute
    from fastdc.teachers.load import load_teacher
    from fastdc.teachers.names import plan_for_subset
    from fastdc.teachers.plan import check_order_used, check_side
    from fastdc.train.network_training import training_side

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
