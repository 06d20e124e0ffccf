"""Define the command line.

Each command parses its options, calls one function of the library and prints the result. Heavy imports stay inside
the commands, so that `--help` is fast.

Exit codes: 0 success, 1 some run failed, 2 bad or damaged input, 130 interrupted.
"""

import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from fastdc.beton.missing_manifest import one_use
from fastdc.cli import (
    bundle_commands,
    data_commands,
    demo_command,
    evaluate_command,
    export_command,
    kind_commands,
    list_commands,
    report_commands,
    scores_command,
    subset_commands,
    sweep_command,
)
from fastdc.cli.common import report_error
from fastdc.cli.protocol_command import protocols_command
from fastdc.cli.streams import flush_streams, prepare_streams
from fastdc.common.errors import FastDCError, explain
from fastdc.common.log import choose_log

app = typer.Typer(
    name="fastdc",
    help="Compress an image training set to N images per class with 37 built-in methods. Then train networks "
    "from scratch on the result under one fixed protocol, and rank the methods.\n\n"
    "For a first table, run fastdc demo; or, with images at photos/train/CLASS and photos/val/CLASS:\n\n"
    "\b\n"
    "fastdc write-beton photos train.beton --split train\n"
    "fastdc write-beton photos val.beton --split val\n"
    "fastdc sweep --train train.beton --val val.beton --methods random,el2n,pca,pact --ipc 10 --seeds 0-2 \\\n"
    "  --protocol 'hard-small*epochs=30' --arch resnet10 --observer arch=resnet10 --image-size 64 \\\n"
    "  --workdir runs/photos",
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


app.command("write-beton", short_help="Write a folder or archive of images as one file.")(data_commands.write)
app.command("verify-beton", short_help="Check a beton for damage.")(data_commands.verify)
app.command("export", short_help="Write a set for other programs.")(export_command.export)
app.command("observe", short_help="Train the observer once and record its dynamics.")(subset_commands.observe)
app.command("compress", short_help="Compress a training set with one method.")(subset_commands.compress)
app.command("scores", short_help="Write every score of every training image.")(scores_command.scores)
app.command("evaluate", short_help="Train on a subset and measure accuracy.")(evaluate_command.evaluate)
app.command("sweep", short_help="Run a grid of methods and print the table.")(sweep_command.sweep)
app.command("report", short_help="Print the results of a sweep.")(report_commands.report)
app.command("compare", short_help="Compare methods, seed by seed.")(report_commands.compare)
app.command("rank", short_help="Rank the methods, with ties.")(report_commands.rank)
app.command("bundle", short_help="Pack a sweep's results into one archive.")(bundle_commands.bundle)
app.command("reproduce", short_help="Check a bundle and run it again.")(bundle_commands.reproduce)
app.command("methods", short_help="List the compression methods.")(list_commands.methods)
app.command("protocols", short_help="List the training protocols.")(protocols_command)
app.command("list", short_help="List what plug-ins can add, by kind.")(kind_commands.list_command)
app.command("check", short_help="Check a method, architecture or other part.")(kind_commands.check_command)
app.command("demo", short_help="Compare methods on real images, in minutes.")(demo_command.demo)
app.command("doctor", short_help="Show what this machine offers and lacks.")(list_commands.doctor)


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
    except ClickException as error:
        context = getattr(error, "ctx", None)
        message = error.format_message().replace("Value error, ", "")  # a word of Typer's own checks
        report_error(f"{message} (see {context.command_path if context else 'fastdc'} --help)")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        report_error("interrupted", "fastdc: ")
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("FASTDC_DEBUG") == "1" and not isinstance(error, FastDCError):
            raise
        bug = f"bug in fastdc: {type(error).__name__}: {error}; FASTDC_DEBUG=1 shows where. Please report it"
        message, code = explain(error) or (bug, 1)
        report_error(message)
        return code


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    report_error(f"{category.__name__}: {message}", "warning: ")


def main() -> None:
    """Run the `fastdc` program."""
    prepare_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores SIGHUP; leave that in place
            signal.signal(number, _interrupt)
    warnings.showwarning = _show_warning
    code = run()
    flush_streams()
    sys.exit(code)


if __name__ == "__main__":
    main()
