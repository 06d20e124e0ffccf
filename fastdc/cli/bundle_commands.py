"""Define the commands on bundles: bundle, reproduce."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fastdc.cli.common import Force, LogOption, Quiet, report_error
from fastdc.common.errors import ConfigError
from fastdc.common.text import format_bytes


def bundle(
    folder: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A sweep's workdir.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.zip|.tar.gz", help="Archive to write.  [default: RUN_DIR.zip]")
    ] = None,
    with_subsets: Annotated[
        bool,
        typer.Option("--with-subsets", help="Also pack the betons of compressed and external sets, which hold images."),
    ] = False,
    force: Force = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no notes; bundle.json keeps them.")] = False,
) -> None:
    """Pack the results of a sweep into one archive, with all that explains them.

    It holds every finished run (curves, keys, what computed it), failures, the sweeps as YAML with all settings, the
    manifests of the data and of compressed sets, the lists of kept images, the lists and scores of external sets,
    versions and machines, and the commands that reproduce it. Images and weights are left out. Equal folders give equal
    bytes. A sweep may run meanwhile: its unfinished runs are left out and counted.

    Example:

    \b
    fastdc bundle runs/first --out first.zip
    """
    from fastdc.sweep.bundle.pack_bundle import write_bundle

    whole = Path(os.path.abspath(folder))  # `..` is replaced, a link keeps its name
    out = out or whole.with_name(f"{whole.name}.zip")
    index = write_bundle(folder, out, with_subsets=with_subsets, force=force)
    counts = ", ".join(f"{count} {state}" for state, count in index.rows.items())
    print(f"{out}: {counts}; {len(index.files)} files, {format_bytes(out.stat().st_size)}")
    if quiet:
        return
    if index.left_out:
        report_error("left out: " + ", ".join(f"{count} {state}" for state, count in index.left_out.items()), "note: ")
    for note in index.notes:
        report_error(note, "note: ")


def reproduce(
    archive: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Archive that fastdc bundle wrote.")],
    train: Annotated[
        list[Path] | None,
        typer.Option(metavar="T.beton", help="The training set; repeat it if the bundle names several."),
    ] = None,
    val: Annotated[
        list[Path] | None,
        typer.Option(metavar="V.beton", help="The validation set; repeat it if the bundle names several."),
    ] = None,
    external: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="File of an external set that is not in the bundle and not at its recorded path. May be repeated.",
        ),
    ] = None,
    workdir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder, which is kept.  [default: one that is removed]")
    ] = None,
    rows: Annotated[str, typer.Option(metavar="N|all", help="How many finished runs to train again.")] = "all",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of N runs.")] = 0,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Check archive, data, external sets and versions; train nothing.")
    ] = False,
    log: LogOption = "auto",
    quiet: Quiet = False,
) -> None:
    """Check a bundle, train its runs again in a new folder, and report run by run what differs.

    First every file of the archive is compared with its hash, versions and machine with the present ones, and the data
    with the recorded content hashes. Each run is then trained from scratch, with its observer and compressed set. A run
    that differs is reported with possible reasons: the method's version, another library, device or number of threads.

    The exit code is 0 if all digits agree, 1 if one differs or a run cannot be made, 2 for bad input. With --check-only
    it is 1 if data are not given, or an external set's file is missing or changed and not in the bundle.

    Example:

    \b
    fastdc reproduce first.zip --train train.beton --val val.beton --rows 3
    """
    from fastdc.sweep.bundle.external_files import check_external, find_external
    from fastdc.sweep.bundle.read_bundle import load_bundle
    from fastdc.sweep.bundle.reproduce import (
        choose_finished,
        describe,
        find_data,
        readiness,
        train_rows,
    )

    count = _count(rows)
    given = load_bundle(archive)
    data = find_data(given, train or [], val or []) | find_external(given, external or [])
    files, lost = check_external(given, data)
    for line in [*describe(given), *files]:
        print(line, flush=True)
    if check_only:
        lines, whole = readiness(given, data, lost)
        print("\n".join(lines))
        if not whole:
            raise typer.Exit(1)
        return
    chosen = choose_finished(given, count, seed)
    same = 0
    for outcome in train_rows(given, chosen, data, workdir, show_progress=not quiet):
        print(outcome.line, flush=True)
        same += outcome.same
    print(f"{same} of {len(chosen)} runs have the same digits")
    if same < len(chosen):
        raise typer.Exit(1)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--rows {text}: expected a number from 1 up, or all")
    return int(text)
