"""Define the command that runs a grid of methods."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fastdc.cli.common import (
    AUGMENT_HELP,
    LOADER_HELP,
    PRECISION_HELP,
    AllowMissing,
    LogOption,
    ObserverSettings,
    Quiet,
    Teacher,
    TeacherOrder,
    Track,
    report_error,
)
from fastdc.common.choices import EngineChoice, Precision, Rerun, Together
from fastdc.common.errors import ConfigError
from fastdc.common.text import counted

if TYPE_CHECKING:
    from fastdc.sweep.launch.workers import Launcher
    from fastdc.sweep.sweep_config import SweepConfig


def sweep(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="File with the grid.")] = None,
    train: Annotated[Path | None, typer.Option(metavar="T.beton", help="Training set.")] = None,
    val: Annotated[Path | None, typer.Option(metavar="V.beton", help="Validation set.")] = None,
    holdout: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Evaluate on this held-out share of the training set instead of --val."),
    ] = None,
    allow_missing_classes: AllowMissing = False,
    methods: Annotated[
        str | None,
        typer.Option(
            help="all, or names: random,el2n[keep=hard],pca; and your own sets: NAME=FILE.beton, NAME=list:FILE, "
            "NAME=scores:FILE[keep=easy].  [default: all]"
        ),
    ] = None,
    ipc: Annotated[
        str | None, typer.Option(help="Images per class: 10,50; your own betons and lists keep their counts.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Training seeds: 0-2 or 0,3,5-7.  [default: 0]")] = None,
    workdir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for observers, subsets and results.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Protocols: hard,cim-hl,hard*epochs=60.  [default: hard]")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="Run every protocol at each number of epochs: 50,100,300.")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="Networks: resnet18,resnet50.  [default: resnet18]")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the stored images and of the crops in px.  [default: 224]")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="METHOD.KEY=VALUE",
            help="A setting of a method or of your own set, or of its protocol: METHOD.protocol.KEY; may be repeated.",
        ),
    ] = None,
    observer: ObserverSettings = None,
    teacher: Teacher = None,
    teacher_order: TeacherOrder = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="RULES", help=f"One or more rules, each with its own table. {AUGMENT_HELP}  [default: method]"
        ),
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help=f"{PRECISION_HELP}  [default: auto]")] = None,
    threads: Annotated[
        int | None, typer.Option(min=0, help="CPU threads of a training; 0 uses all.  [default: 0]")
    ] = None,
    loader: Annotated[EngineChoice | None, typer.Option(help=f"{LOADER_HELP}  [default: auto]")] = None,
    together: Annotated[
        Together | None,
        typer.Option(help="Whether runs that differ only in --arch (GPU: and --seeds) train at once.  [default: auto]"),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the networks of trainings with torch.compile; they get rows of their own."
        ),
    ] = False,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="all|NUMBERS", help="Run in parallel on these GPUs of this host, each with a process: all, or 0,2."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Run in parallel in this many processes on this host; on a GPU they divide its memory."
        ),
    ] = None,
    launcher: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local: here, one run after another without --gpus or --workers; ray: on a cluster."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT|auto", help="Ray cluster to use; without it, one is started on this host."),
    ] = None,
    gpus_per_run: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of a GPU for each run under ray; 0 uses none.")
    ] = None,
    rerun: Annotated[
        Rerun,
        typer.Option(help="missing: runs without a result that have not failed; failed: these and failed ones; all."),
    ] = "missing",
    track: Track = None,
    log: LogOption = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show runs, time and disk space; write nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a grid of methods x ipc x protocols x epochs x networks x seeds, keep every result, and print the table.

    Options override keys of CONFIG.yaml (train, val, holdout, workdir, methods, ipc, seeds, protocols, epochs, archs,
    observer, teacher, teacher_order, image_size, set, augment, precision, threads, loader, together, compile, track,
    allow_missing_classes). Paths are relative to the current folder.

    A second call runs only what is missing. Several sweeps may share one workdir. A failed run becomes a row with its
    reason, and the exit code is 1. `--rerun all` trains again but reuses subsets and observers, because equal inputs
    give equal ones. An old result stays until the new one replaces it, and an interrupted rerun resumes.

    Example:

    \b
    fastdc sweep --train train.beton --val val.beton --methods random,el2n,pca,pact --ipc 10 --seeds 0-2 \\
      --protocol 'hard-small*epochs=30' --arch resnet10 --observer arch=resnet10 --image-size 64 --workdir runs/photos

    Example:

    \b
    fastdc sweep configs/demo.yaml --methods random,full --set full.protocol.epochs=4 --dry-run

    Example:

    \b
    fastdc sweep grid.yaml --methods random,pca,rded10=sets/rded10.beton,mine=list:kept.npy

    Example, with a process on each GPU of this host:

    \b
    fastdc sweep grid.yaml --gpus all
    """
    from fastdc.common.settings import parse_settings
    from fastdc.sweep.sweep_config import load_config

    options: dict[str, Any] = {"train": train, "val": val, "methods": methods, "ipc": ipc, "seeds": seeds}
    options |= {"workdir": workdir, "protocols": protocol, "epochs": epochs, "archs": arch, "image_size": image_size}
    options |= {"threads": threads, "augment": augment, "precision": precision, "loader": loader, "together": together}
    options |= {"teacher": teacher, "teacher_order": teacher_order, "track": track, "holdout": holdout}
    # An absent flag must not override the file's key.
    options |= {"allow_missing_classes": allow_missing_classes or None, "compile": compiled or None}
    options["observer"] = parse_settings(observer or []) or None
    given = {key: value for key, value in options.items() if value is not None}
    grid = load_config(config, given, settings or [])
    chosen = _launcher(launcher, address, gpus_per_run, gpus, workers)
    if dry_run:
        from fastdc.sweep.forecast.preview import preview
        from fastdc.sweep.forecast.probe import probe_networks

        print("\n".join(preview(grid, rerun, chosen, probe_networks)))
        return
    _run(grid, rerun, quiet, chosen)


def _launcher(
    launcher: str, address: str | None, gpus_per_run: float | None, gpus: str | None, workers: int | None
) -> "Launcher | None":
    """Return the launcher of workers, or None to run the cells in this process."""
    own = {"--gpus": gpus, "--workers": workers}
    foreign = own if launcher == "ray" else {"--address": address, "--gpus-per-run": gpus_per_run}
    reader = "local" if launcher == "ray" else "ray"
    for option, value in foreign.items():
        if value is not None:
            raise ConfigError(f"{option} {value}: only --launcher {reader} reads it; add that, or leave it out")
    if launcher == "ray":
        from fastdc.sweep.launch.ray_actors import RayLauncher

        return RayLauncher(address, gpus_per_run)
    if gpus is None and workers is None:
        return None
    from fastdc.sweep.launch.host_workers import HostLauncher

    return HostLauncher(workers, gpus)


def _run(grid: "SweepConfig", rerun: Rerun, quiet: bool, launcher: "Launcher | None") -> None:
    from fastdc.report import make_rows, show
    from fastdc.sweep.run_cells import run_sweep
    from fastdc.sweep.store.results import Store

    try:
        plan, outcome = run_sweep(grid, rerun, show_progress=not quiet, launcher=launcher)
    except KeyboardInterrupt:
        report_error("interrupted; finished runs are kept, the same command continues the sweep", "fastdc: ")
        raise typer.Exit(130) from None
    with Store(plan.store_path, readonly=True) as store:
        show(make_rows(store.records(), [cell.key for cell in plan.cells]))
    counts = ", ".join(f"{count} {state}" for state, count in sorted(outcome.states.items()))
    print(f"\n{len(plan.cells)} runs: {counts} ({outcome.ran} of them now). Results: {plan.store_path}")
    failed = outcome.states["failed"] + outcome.states["diverged"]
    if failed:
        report_error(f"{counted(failed, 'run')} failed; --rerun failed repeats failed runs")
    if outcome.kept:
        report_error(f"{counted(outcome.kept, 'run')} failed this time; earlier results are kept")
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)
