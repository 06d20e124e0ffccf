"""Define the command that exports a set to other programs."""

from pathlib import Path
from typing import Annotated

import typer

from fastdc.cli.common import Quiet
from fastdc.common.choices import LayoutName
from fastdc.common.text import format_bytes, plain


def export(
    subset: Annotated[Path, typer.Argument(metavar="SUBSET.beton", help="Set to export; its manifest is beside it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; for npz, the file.")],
    layout: Annotated[
        LayoutName,
        typer.Option(
            "--as",
            help="folder: CLASS/NUMBER.jpg; hf: parquet shards and a dataset card; webdataset: tars; npz: arrays of "
            "decoded pixels; rethinkdc: for the benchmark's own code.",
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write the images of a set for other programs, with fastdc.json, from which write-beton restores the set.

    JPEG bytes stay untouched, raw pixels become PNG, and every image is checked against its hash.

    Example:

    \b
    fastdc export pca10.beton pca10 --as folder
    fastdc write-beton pca10 again.beton
    """
    from fastdc.subsets.export_beton import export_beton

    made = export_beton(subset, out, layout, force=force, show_progress=not quiet)
    count = f"{made.files:,} file{'s' * (made.files != 1)}"
    print(f"{out}: {len(made.manifest.ids):,} images in {count}, {format_bytes(made.bytes)}")
    for line in made.notes:
        print(plain(line))
