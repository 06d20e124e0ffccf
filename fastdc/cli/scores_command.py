"""Define the command that writes every score of every training image."""

from pathlib import Path
from typing import Annotated

import typer

from fastdc.cli.common import Force, LogOption, ObserverSettings, Quiet, Train, Workdir
from fastdc.common.errors import ConfigError


def scores(
    train: Train,
    workdir: Workdir,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write: .parquet, .csv or .csv.gz.")],
    every: Annotated[bool, typer.Option("--all", help="Write every score of the observer's record.")] = False,
    score: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Write the scores of these methods, also with settings: el2n[last_epoch=5],aum."
        ),
    ] = None,
    observer: ObserverSettings = None,
    force: Force = False,
    log: LogOption = "auto",
    quiet: Quiet = False,
) -> None:
    """Write the scores of every training image, with ids, classes, direction and provenance.

    High scores mark hard images in every column. A missing observer is trained first, as by `fastdc observe`. `fastdc
    compress from-scores FILE TRAIN.beton --score el2n` stores the same set as `fastdc compress el2n`.

    Example:

    \b
    fastdc scores train.beton --all --out scores.parquet --workdir runs/first
    """
    from fastdc.common.settings import parse_settings, split_names
    from fastdc.subsets.all_scores import write_scores

    if every == (score is not None):
        raise ConfigError(
            f"scores: {'--all and --score exclude each other' if every else 'give --all or --score NAMES'}"
        )
    record = write_scores(
        train,
        out,
        workdir=workdir,
        names=None if score is None else split_names(score),
        observer=parse_settings(observer or []),
        force=force,
        show_progress=not quiet,
    )
    print(f"{out}: {len(record.columns)} scores: {', '.join(record.columns)}")
