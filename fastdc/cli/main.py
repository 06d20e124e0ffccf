"""Define the command line.

Each command parses its options, calls one function of the library and prints the result. Heavy imports stay inside
the commands, so that `--help` is fast.

Exit codes: 0 success, 1 some run failed, 2 bad or damaged input, 130 interrupted.
"""

import errno
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO, cast

import typer

from fastdc.beton.missing_manifest import one_use
from fastdc.cli import data_commands as data
from fastdc.cli import kind_commands, report_commands
from fastdc.cli.common import (
    AUGMENT_HELP,
    PRECISION_HELP,
    AllowMissing,
    Engine,
    Launcher,
    Log,
    LogOption,
    ObserverSettings,
    Precision,
    Quiet,
    Rerun,
    Style,
    Teacher,
    TeacherOrder,
    Together,
    Track,
    outlive_reader,
    say_error,
)
from fastdc.cli.protocol_command import protocols_command
from fastdc.common.errors import ConfigError, FastDCError
from fastdc.common.log import choose_log
from fastdc.common.text import plain

app = typer.Typer(
    name="fastdc",
    help="Compress an image training set to N images per class with any published method, train networks from "
    "scratch on the result under one fixed protocol, and rank the methods.\n\n"
    "A first table: fastdc write-beton photos train.beton --split train, the same with --split val, then "
    "fastdc sweep --train train.beton --val val.beton --methods all --ipc 10 --seeds 0-2 --workdir runs/first",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(value: bool) -> None:
    if value:
        from fastdc._version import __version__

        print(f"fastdc {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Accept the options that precede the command."""


app.command("write-beton", short_help="Write a folder or archive of images as one file.")(data.write_beton_command)
app.command("verify-beton", short_help="Check a beton for damage.")(data.verify_beton_command)
app.command("observe", short_help="Train the observer once, keep its dynamics.")(data.observe_command)
app.command("compress", short_help="Compress a training set with one method.")(data.compress_command)
app.command("evaluate", short_help="Train on a subset, measure on the validation set.")(data.evaluate_command)


@app.command("sweep", short_help="Run a grid of methods and print the table.")
def sweep_command(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="The grid.", show_default=False)
    ] = None,
    train: Annotated[Path | None, typer.Option(metavar="T.beton", help="Training set.")] = None,
    val: Annotated[Path | None, typer.Option(metavar="V.beton", help="Validation set.")] = None,
    holdout: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Evaluate on this share of the training set, held out, not on --val."),
    ] = None,
    allow_missing_classes: AllowMissing = False,
    methods: Annotated[str | None, typer.Option(help="all, or names: random,el2n[keep=hard],pca.")] = None,
    ipc: Annotated[str | None, typer.Option(help="Images per class: 10,50.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Training seeds: 0-2 or 0,3,5-7.")] = None,
    workdir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where everything is kept.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Protocols: hard,cim-hl,hard*epochs=60.")] = None,
    arch: Annotated[str | None, typer.Option(help="Networks: resnet18,resnet50.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of stored images and crops in px.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.KEY=VALUE", help="Method setting, or METHOD.protocol.KEY; repeatable."),
    ] = None,
    observer: ObserverSettings = None,
    teacher: Teacher = None,
    teacher_order: TeacherOrder = None,
    augment: Annotated[
        str | None, typer.Option(metavar="RULES", help=f"One or several, a table each: {AUGMENT_HELP}")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help=PRECISION_HELP)] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="CPU threads of a training; 0 takes all.")] = None,
    loader: Annotated[Engine | None, typer.Option(help="How batches are made; device needs CUDA.")] = None,
    together: Annotated[
        Together | None, typer.Option(help="Train networks that differ only in --arch from one decoded stream.")
    ] = None,
    launcher: Annotated[
        Launcher, typer.Option(help="local: one after the other, here; ray: side by side on a cluster.")
    ] = Launcher.local,
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT|auto", help="Ray cluster to use; else one on this host is started.")
    ] = None,
    gpus_per_run: Annotated[
        float | None, typer.Option(min=0, max=1, help="Part of a GPU for each run under ray; 0 uses none.")
    ] = None,
    rerun: Annotated[
        Rerun, typer.Option(help="missing: what has no result, not failed runs; failed: those too; all: everything.")
    ] = Rerun.missing,
    track: Track = None,
    log: LogOption = Log.auto,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show runs, time and disk; write nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a grid of methods x ipc x protocols x networks x seeds, keep every result, print the table.

    Options replace keys of CONFIG.yaml (train, val, holdout, workdir, methods, ipc, seeds, protocols, archs, observer,
    teacher, teacher_order, image_size, set, augment, precision, threads, loader, together, track,
    allow_missing_classes). Paths are relative to the current folder. A second call does only what is missing.
    Several sweeps may share one workdir. A failed run becomes a row with its reason, and the exit code is 1.
    `--rerun all` trains again but reuses subsets and observers, because equal content makes equal ones. An old result
    stays until the new one replaces it, and an interrupted rerun resumes.

    Example:

    \b
    fastdc sweep --train t.beton --val v.beton --methods all --ipc 10,50 --seeds 0-2 --workdir runs/first

    Example:

    \b
    fastdc sweep configs/demo.yaml --methods random,full --set full.protocol.epochs=4 --dry-run
    """
    from fastdc.common.settings import parse_settings
    from fastdc.sweep.sweep_config import load_config

    options: dict[str, Any] = {"train": train, "val": val, "methods": methods, "ipc": ipc, "seeds": seeds}
    options |= {"workdir": workdir, "protocols": protocol, "archs": arch, "image_size": image_size, "threads": threads}
    options |= {"augment": augment, "precision": precision, "loader": loader, "together": together}
    options |= {"teacher": teacher, "teacher_order": teacher_order, "track": track}
    options["allow_missing_classes"] = allow_missing_classes or None  # an absent flag must not override the file's key
    options["holdout"] = holdout
    options["observer"] = parse_settings(observer or []) or None
    given = {
        key: str(value) if isinstance(value, StrEnum) else value for key, value in options.items() if value is not None
    }
    grid = load_config(config, given, settings or [])
    chosen = _launcher(launcher, address, gpus_per_run)
    if dry_run:
        from fastdc.sweep.forecast.preview import preview
        from fastdc.sweep.forecast.probe import probe_networks

        print("\n".join(preview(grid, rerun.value, chosen, probe_networks)))
        return
    _sweep(grid, rerun.value, quiet, chosen)


def _launcher(launcher: Launcher, address: str | None, gpus_per_run: float | None) -> Any:
    """Return the launcher that runs the cells elsewhere, or None to run them in this process."""
    if launcher is Launcher.local:
        for option, value in (("--address", address), ("--gpus-per-run", gpus_per_run)):
            if value is not None:
                raise ConfigError(f"{option} {value}: only --launcher ray reads it; add that, or leave it out")
        return None
    from fastdc.sweep.launch.ray_actors import RayLauncher

    return RayLauncher(address, gpus_per_run)


def _sweep(grid: Any, rerun: Any, quiet: bool, launcher: Any = None) -> None:
    from fastdc.report import make_rows, show
    from fastdc.sweep.run_cells import run_sweep
    from fastdc.sweep.store.results import Store

    try:
        plan, outcome = run_sweep(grid, rerun, show_progress=not quiet, launcher=launcher)
    except KeyboardInterrupt:
        say_error("interrupted; finished runs are kept, the same command goes on", "fastdc: ")
        raise typer.Exit(130) from None
    with Store(plan.store_path, readonly=True) as store:
        show(make_rows(store.records(), [cell.key for cell in plan.cells]))
    counts = ", ".join(f"{count} {state}" for state, count in sorted(outcome.states.items()))
    print(f"\n{len(plan.cells)} runs: {counts} ({outcome.ran} run now). Results: {plan.store_path}")
    failed = outcome.states["failed"] + outcome.states["diverged"]
    if failed:
        say_error(f"{failed} runs failed; --rerun failed tries them again")
    if outcome.kept:
        say_error(f"{outcome.kept} runs failed this time; their earlier results are kept")
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


@app.command("report", short_help="Print the results of a sweep.")
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's workdir.", show_default=False)],
    style: Annotated[
        Style, typer.Option("--format", help="table is for people, the others for programs.")
    ] = Style.table,
    epochs: Annotated[
        bool, typer.Option("--epochs", help="Also accuracy against epochs, and the best epoch, which is never ranked.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write one offline page with charts and stored images."),
    ] = None,
) -> None:
    """Print the results of a sweep: mean and standard deviation over seeds, bytes, seconds, and what failed.

    A mean over only part of the seeds is marked, for example 2/3. Accuracy is that of the last epoch; std uses ddof=1.
    DIR may also be a folder with a study's rows.jsonl.

    Example:

    \b
    fastdc report runs/first --format csv > results.csv
    """
    from fastdc.report import Format, render, show, write_page
    from fastdc.report.epochs import epochs_json, epochs_table
    from fastdc.report.read_results import open_results
    from fastdc.report.rows import group_rows

    if epochs and style not in (Style.table, Style.json):
        raise ConfigError(f"--epochs: --format {style.value} has no place for it; take table or json")
    with open_results(folder, whole=True) as results:
        groups = group_rows(results.records())
        rows, more = [row for row, _ in groups], ""
        if epochs:
            more = (epochs_table if style is Style.table else epochs_json)(results, groups)
        if html is not None:
            written = write_page(results, folder, html)
            say_error(f"{html}: {written / 1e6:.1f} MB, opens in any browser without a network", "page: ")
    if style is Style.table:
        show(rows)
        print(f"\n{more}" if more else "", end="\n" if more else "")
    elif more:
        print(more)
    else:
        print(render(rows, cast(Format, style.value)))


app.command("compare", short_help="Compare methods, seed by seed.")(report_commands.compare_command)
app.command("rank", short_help="Rank the methods, with ties.")(report_commands.rank_command)


@app.command("methods", short_help="List the compression methods.")
def methods_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list and nothing else.")] = False,
) -> None:
    """List every compression method and what it needs, and plug-ins that failed to load.

    Example:

    \b
    fastdc methods --json
    """
    from fastdc.methods import all_methods, broken_methods

    if as_json:
        listed: list[dict[str, Any]] = []
        for method in all_methods().values():
            settings = method.config_class().model_dump(mode="json")
            listed.append({**method.info.model_dump(mode="json"), "version": method.version, "settings": settings})
        for name, reason in broken_methods().items():
            listed.append({"name": name, "family": "broken", "needs": [], "paper": "", "year": 0, "reason": reason})
        print(json.dumps(listed, indent=1))
        return
    for name, method in all_methods().items():
        info = method.info
        year = str(info.year) if info.year else ""
        print(f"{name:<18} {info.family:<12} {year:<5} {', '.join(info.needs) or '-':<22} {info.paper or info.title}")
    for name, reason in broken_methods().items():
        print(plain(f"{name:<18} broken: {reason}"))


app.command("protocols", short_help="List the training protocols.")(protocols_command)
app.command("list", short_help="List what plug-ins can add, by kind.")(kind_commands.list_command)
app.command("check", short_help="Check a method, architecture or other part.")(kind_commands.check_command)


@app.command("doctor", short_help="Say what this machine offers and lacks.")
def doctor_command(
    workdir: Annotated[Path, typer.Option(metavar="DIR", help="Folder whose disk is looked at.")] = Path(),
) -> None:
    """Report what this machine offers fastdc and how to fix what is missing.

    Exit code 0 when fastdc can work, else 1. Warnings are allowed: without FFCV the in-memory loader does the work.
    """
    from fastdc.cli.doctor import examine, is_usable, report

    checks = examine(workdir)
    report(checks, print)
    raise typer.Exit(0 if is_usable(checks) else 1)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, printing errors instead of raising them.

    With FASTDC_DEBUG=1 in the environment an unexpected exception is raised.

    Args:
        arguments: command line without the program's name; None takes `sys.argv`.
    """
    from typer._click.exceptions import ClickException  # typer's own copy of click; the public click has other classes

    arguments = sys.argv[1:] if arguments is None else arguments
    # Set the log form before the options are parsed, so that parsing errors are reported in it too.
    choose_log("json" if re.search(r"(^|\0)--log[\0=]json(\0|$)", "\0".join(arguments)) else "auto")
    try:
        with one_use():
            code = app(args=arguments or ["--help"], prog_name="fastdc", standalone_mode=False)
        print(end="", flush=True)  # a full disk or a closed pipe shows here, where it can still be reported
        return code if isinstance(code, int) else 0
    except FastDCError as error:
        say_error(str(error))
        return error.exit_code
    except ClickException as error:
        context = getattr(error, "ctx", None)
        say_error(f"{error.format_message()} (see {context.command_path if context else 'fastdc'} --help)")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say_error("interrupted", "fastdc: ")
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("FASTDC_DEBUG") == "1":
            raise
        if isinstance(error, OSError) and (text := _file_problem(error)):
            say_error(text)
            return 2
        say_error(f"bug in fastdc: {type(error).__name__}: {error}; FASTDC_DEBUG=1 shows where. Please report it")
        return 1


def _file_problem(error: OSError) -> str | None:
    """Return the message for an error of a path or a disk; None for any other error."""
    where = "output" if error.filename is None else os.fsdecode(error.filename)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}: disk full ({error.strerror}); free space and run again"
    return None if error.filename is None else f"{where}: {error.strerror}; check path and permissions"


def _open_streams() -> None:
    """Replace every closed standard stream (`>&-`) by one to /dev/null.

    Otherwise the next file that is opened gets the descriptor of stdout, and library output corrupts that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # POSIX assigns the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (stays open as long as the process lives)


def _flush(stream: TextIO) -> None:
    """Flush a stream, or drop its content if that fails: the interpreter would print a traceback at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def main() -> None:
    """Run the `fastdc` program."""
    _open_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores SIGHUP; leave that in place
            signal.signal(number, _interrupt)
    warnings.showwarning = lambda message, category, *_, **__: say_error(f"{category.__name__}: {message}", "warning: ")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows "?" instead of raising
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout is sys.__stdout__:  # not the one from `_open_streams`
        sys.stdout = outlive_reader(sys.stdout)
    code = run()
    _flush(sys.stdout)
    _flush(sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
