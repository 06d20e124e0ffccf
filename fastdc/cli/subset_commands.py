"""Define the commands that make subsets: observe, compress."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastdc.beton.sample_order import Order
from fastdc.cli.common import (
    OBSERVER_KEYS,
    PRECISION_HELP,
    Force,
    LogOption,
    ObserverSettings,
    Quiet,
    Seed,
    Settings,
    TeacherOrder,
    Train,
    Workdir,
)
from fastdc.cli.data_commands import class_lines
from fastdc.common.choices import End, Precision
from fastdc.common.errors import ConfigError
from fastdc.common.files import prepare_workdir
from fastdc.common.log import progress_shown
from fastdc.common.text import format_bytes

if TYPE_CHECKING:
    from fastdc.beton import Manifest


def observe(
    train: Train,
    workdir: Workdir,
    arch: Annotated[str | None, typer.Option(help="Network to train.  [default: resnet18]")] = None,
    seed: Seed = 0,
    runs: Annotated[int, typer.Option(min=1, help="Independent trainings; scores average over them.")] = 1,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side of the training crops in px.  [default: the images' median shorter side, at most 224]"),
    ] = None,
    stop_after: Annotated[int | None, typer.Option(min=1, help="Stop after N epochs of the schedule.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help=f"A setting; may be repeated. Keys: {OBSERVER_KEYS}."),
    ] = None,
    log: LogOption = "auto",
    quiet: Quiet = False,
) -> None:
    """Train the observer once on the full set and record every sample's dynamics for the methods that read them.

    At the end of the schedule its weights are kept as a teacher for methods and soft labels (--teacher observer).
    Records are found by content, so a second call with the same data and settings returns at once. A killed training
    resumes.

    Example:

    \b
    fastdc observe train.beton --workdir runs/first --arch resnet18 --set epochs=60
    """
    from fastdc.beton import describe_beton
    from fastdc.common.settings import merge_settings, parse_settings
    from fastdc.observe import choose_observer
    from fastdc.observe.record_needs import WHOLE_SCHEDULE, ObserverNeeds
    from fastdc.observe.train_observer import observe

    options = {"arch": arch, "image_size": image_size}
    chosen = {key: value for key, value in options.items() if value is not None}
    given = {"seed": seed, "runs": runs} | merge_settings("the observer", chosen, parse_settings(settings or []))
    config = choose_observer(train, describe_beton(train).content_hash, workdir, given=given)
    prepare_workdir(workdir)
    needs = ObserverNeeds(WHOLE_SCHEDULE, weights=True) if stop_after is None else None
    for record in observe(train, workdir, config, needs=needs, stop_after=stop_after, show_progress=not quiet):
        weights = f"; weights for --teacher: {record.weights}" if record.weights is not None else ""
        done = f"{record.epochs} epochs of {record.num_samples:,} samples, {record.seconds():,.0f} s"
        print(f"{record.folder}: {done}{weights}")


def compress(
    context: typer.Context,
    method: Annotated[
        str,
        typer.Argument(metavar="METHOD", help="Name or variant (el2n[keep=hard]), from-list or from-scores."),
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="TRAIN.beton", help="Training set; for from-list and from-scores: FILE TRAIN.beton."),
    ],
    out: Annotated[Path, typer.Option(metavar="SUBSET.beton", help="File to write.")],
    ipc: Annotated[
        int | None, typer.Option(min=1, help="Stored images per class; required, except for from-list.")
    ] = None,
    workdir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for observers and results; required, except for from-list and from-scores."
        ),
    ] = None,
    seed: Seed = 0,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=8, help="Side of the stored images in px.  [default: 224; from-list: that of a list of mosaics]"
        ),
    ] = None,
    index_order: Annotated[
        Order | None,
        typer.Option(
            help="Numbering of a file's indices, for from-list and from-scores: imagefolder (torchvision's, the "
            "default) or own (the beton's)."
        ),
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of a file of several scores, for from-scores.")
    ] = None,
    keep: Annotated[
        End | None, typer.Option(help="Images to keep by difficulty, for from-scores; for methods, use --set keep=.")
    ] = None,
    high: Annotated[
        End | None,
        typer.Option(
            help="Images with high scores in the file, for from-scores.  [default: the file's record, else hard]"
        ),
    ] = None,
    settings: Settings = None,
    observer: ObserverSettings = None,
    teacher_order: TeacherOrder = None,
    precision: Annotated[
        Precision, typer.Option(help=f"Precision of the networks that the method runs: {PRECISION_HELP}")
    ] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of these networks; 0 uses all.")] = 0,
    force: Force = False,
    log: LogOption = "auto",
    quiet: Quiet = False,
) -> None:
    """Compress a training set to IPC images per class and write them as a beton.

    Methods that read training dynamics or use the observer as a teacher first run `fastdc observe`, unless its result
    is in --workdir. A killed distillation resumes. Methods that keep or tile images also write SUBSET.list.tsv with
    id, class and score (high = hard) of these images.

    `from-list LIST TRAIN.beton` stores the images that a list names. A list, made by fastdc or elsewhere, has one id,
    path or index per line, optionally with its class; or it holds indices or a mask. A list of mosaics makes the
    mosaics again.

    `from-scores FILE TRAIN.beton --ipc N --keep easy|hard` ranks the images by the scores in a file.
    docs/guides/pruning.md lists the formats of both.

    Example:

    \b
    fastdc compress pca train.beton --ipc 10 --out pca10.beton --workdir runs/first --set grid=2
    fastdc compress sre2l train.beton --ipc 10 --out sre2l10.beton --workdir runs/first --set preset=cpu
    fastdc compress from-list kept.txt train.beton --out kept.beton
    fastdc compress from-scores el2n.npy train.beton --ipc 10 --keep easy --out easy.beton
    """
    from fastdc.common.settings import parse_settings

    given, options = parse_settings(settings or []), dict[str, Any]()
    unread: dict[str, Any] = {"--observer": observer, "--teacher-order": teacher_order}
    unread |= {f"--{name}": _is_given(context, name) for name in ("seed", "workdir", "precision", "threads")}
    if method == "from-list":
        unread |= {"--ipc": ipc, "--score": score, "--keep": keep, "--high": high}
        _refuse_unread(method, unread, "the list determines what is kept")
        source, train = _inputs(method, inputs, "LIST", "TRAIN.beton")
        _compress_list(source, train, out, image_size, given, index_order or "imagefolder", force)
        return
    if method == "from-scores":
        _refuse_unread(method, unread, "the file has the scores")
        source, train = _inputs(method, inputs, "FILE", "TRAIN.beton")
        if ipc is None or keep is None:
            raise ConfigError(
                f"compress from-scores: {'--ipc' if ipc is None else '--keep easy or --keep hard'} is missing"
            )
        options = {"ipc": ipc, "score": score, "high": high, "image_size": image_size, "force": force}
        _compress_scores(source, train, out, keep, given, index_order=index_order or "imagefolder", **options)
        return
    from fastdc.subsets.request import DEFAULT_IMAGE_SIZE

    (train,) = _inputs(method, inputs, "TRAIN.beton")
    _refuse_unread(method, {"--index-order": index_order}, "only from-list and from-scores read indices")
    _refuse_unread(method, {"--score": score, "--high": high}, "only from-scores reads it")
    _refuse_unread(method, {"--keep": keep}, "only from-scores reads it; see --set keep=")
    if ipc is None or workdir is None:
        missing = "--ipc" if ipc is None else "--workdir"
        raise ConfigError(f"compress {method}: {missing} is missing")
    options = {"ipc": ipc, "seed": seed, "image_size": image_size or DEFAULT_IMAGE_SIZE, "threads": threads}
    options |= {"precision": precision, "teacher_order": teacher_order, "observer": parse_settings(observer or [])}
    with progress_shown(not quiet):
        _compress(method, train, out, workdir, given, force, options)


def _is_given(context: typer.Context, name: str) -> bool:
    """Return whether the command line has an option, also with its default value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_unread(method: str, unread: dict[str, Any], reason: str) -> None:
    for option in (name for name, value in unread.items() if value):
        raise ConfigError(f"compress {method}: {option} does not apply, {reason}")


def _inputs(method: str, inputs: list[Path], *expected: str) -> list[Path]:
    if len(inputs) != len(expected):
        found = " ".join(map(str, inputs))
        raise ConfigError(f"compress {method}: got {found}, expected {' '.join(expected)}")
    return inputs


def _compress_list(
    source: Path, train: Path, out: Path, image_size: int | None, given: dict[str, Any], index_order: Order, force: bool
) -> None:
    from fastdc.methods import MethodConfig
    from fastdc.subsets.from_list import compress_list

    config = MethodConfig.make(given, "compress from-list")
    fit = config.fit if "fit" in given else None
    made = compress_list(
        source,
        train,
        out,
        image_size=image_size,
        fit=fit,
        augment=config.augment,
        index_order=index_order,
        force=force,
    )
    _report(out, made)


def _compress_scores(source: Path, train: Path, out: Path, keep: End, given: dict[str, Any], **options: Any) -> None:
    from fastdc.common.settings import merge_settings
    from fastdc.methods.bases.score_methods import ScoreConfig
    from fastdc.subsets.from_scores import compress_scores

    given = merge_settings("compress from-scores", {"keep": keep}, given)
    config = ScoreConfig.make(given, "compress from-scores")
    _report(out, compress_scores(source, train, out, config=config, **options))


def _report(out: Path, made: "Manifest") -> None:
    print(f"{out}: {len(made.ids):,} images, {format_bytes(made.image_bytes)}")
    for line in class_lines(made):
        print(line)


def _compress(
    method: str, train: Path, out: Path, workdir: Path, given: dict[str, Any], force: bool, options: dict[str, Any]
) -> None:
    """Make a subset after every check that needs no training."""
    from fastdc.common.settings import merge_settings
    from fastdc.methods import parse_variant
    from fastdc.observe.choose_observer import report_observer
    from fastdc.subsets.compress import make_subset
    from fastdc.subsets.request import SubsetRequest

    name, own = parse_variant(method)
    settings = merge_settings(f"method {name}", own, given)
    request = SubsetRequest.make(name, train, workdir=workdir, settings=settings, **options)
    prepare_workdir(workdir)
    if request.trains_observer:
        report_observer(request.manifest.content_hash, workdir, request.observer)
    made = make_subset(request, out, force=force)
    seconds = ", ".join(f"{part} {value:.1f} s" for part, value in made.seconds.items())
    print(f"{out}: {len(made.manifest.ids):,} images, {format_bytes(made.manifest.image_bytes)} ({seconds})")
