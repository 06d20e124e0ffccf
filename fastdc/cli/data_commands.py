"""Define the commands on data: write-beton, verify-beton."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastdc.cli.common import Force, Quiet, report_error
from fastdc.common.choices import Encoding, OnError
from fastdc.common.log import log_message
from fastdc.common.text import format_bytes, plain

if TYPE_CHECKING:
    from fastdc.beton import Manifest


def write(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder, archive, table, arrays, hf://OWNER/NAME, ...")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.beton", help="File to write.")],
    split: Annotated[str | None, typer.Option(help="Split to write, if SOURCE has splits.")] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Shrink the shorter side to N px; images are never enlarged.")
    ] = None,
    encoding: Annotated[
        Encoding | None,
        typer.Option(help="keep: JPEG bytes unchanged (default); jpg (default with --resolution); raw."),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="JPEG quality of --encoding jpg.  [default: 90]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; the file is the same for any number.")] = None,
    on_error: Annotated[
        OnError, typer.Option(help="fail: stop at an unreadable image or label; skip: leave the image out and list it.")
    ] = "fail",
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of classes 0, 1, ...: a .beton, its .json, or a text file with one name per line. Folders and "
            "labels match by name, else by number.",
        ),
    ] = None,
    allow_missing_classes: Annotated[
        bool,
        typer.Option(
            "--allow-missing-classes",
            help="Keep classes without images: empty folders or, with --classes, missing ones.",
        ),
    ] = False,
    image_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Column of images or paths, in a table or shards.  [default: by common names]"
        ),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of labels.  [default: by common names]")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="M[,M,M]", help="Undo a standardisation of arrays of floats, with --std; scale 0..1."),
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="S[,S,S]", help="See --mean.")] = None,
    hint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Training hint of a set of mosaics: tile_grid=2 crops inside its 2 x 2 tiles. May be repeated.",
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write images into one FFCV file: class folders, archives, tables, shards, arrays and other layouts.

    `fastdc list sources` lists the layouts.

    The manifest OUT.json beside it lists classes, counts, conversions, skipped files and a hash of every sample.

    Example:

    \b
    fastdc write-beton photos.tar train.beton --split train --resolution 256
    """
    from fastdc.beton import write_beton
    from fastdc.beton.counting import copied_jpegs
    from fastdc.common.settings import split_floats

    if quality is not None and encoding != "jpg" and (encoding is not None or resolution is None):
        log_message("--quality has no effect here: it belongs to --encoding jpg (the default with --resolution)")
    made = write_beton(
        source,
        out,
        split=split,
        classes=classes,
        resolution=resolution,
        encoding=encoding,
        quality=quality,
        workers=workers,
        on_error=on_error,
        allow_missing_classes=allow_missing_classes,
        image_column=image_column,
        label_column=label_column,
        mean=None if mean is None else split_floats(mean, "--mean"),
        std=None if std is None else split_floats(std, "--std"),
        hints=hint or (),
        force=force,
        show_progress=not quiet,
    )
    print(f"{out}: {len(made.ids):,} images, {len(made.classes):,} classes, {format_bytes(made.image_bytes)} of images")
    changed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(made.converted.items()))
    if changed:
        print(f"converted: {changed}")
    for line in (*class_lines(made), *skipped_lines(made)):
        print(line)
    if copied_jpegs(out, made):
        print(f"JPEG images were not decoded; fastdc verify-beton {out} --deep decodes all")


def class_lines(made: "Manifest") -> list[str]:
    """Return a line for each surprise about the classes: numbers in place of names, or classes without images."""
    lines = []
    if made.made.get("class_names") == "numbers":
        last = made.classes[-1]
        lines.append(
            f"classes are called {made.classes[0]}..{last}, because the source does not name them; if the validation "
            "set has names, give them here: --classes VAL.beton"
        )
        if made.counts[0] == 0:
            lines.append("no label is 0; if the labels count from 1, subtract 1 from each first")
    empty = [name for name, count in zip(made.classes, made.counts, strict=True) if count == 0]
    if empty:
        lines.append(plain(f"{len(empty):,} of {len(made.classes):,} classes have no images, the first is {empty[0]}"))
    return lines


def skipped_lines(made: "Manifest") -> list[str]:
    """Return one line for images that were left out and one for other files, each with its first example.

    Images are left out if they are unreadable or have no usable label.
    """
    names = {"unreadable": "images", "not_image": "files that are not images"}
    counts = Counter(item.kind for item in made.skipped)
    first = {item.kind: item for item in reversed(made.skipped)}
    return [
        plain(f"skipped: {counts[kind]:,} {name}, first {first[kind].path} ({first[kind].reason})")
        for kind, name in names.items()
        if kind in first
    ]


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The beton to check.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every sample and compare its hash.")] = False,
) -> None:
    """Check a beton for truncation, damaged tables, bad labels and a manifest of another file.

    The exit code is 0 if the file is sound. Otherwise it is 2, and each problem is printed on a line.

    Example:

    \b
    fastdc verify-beton train.beton --deep
    """
    from fastdc.beton import verify_beton

    problems = verify_beton(file, deep)
    for problem in problems:
        sample = "" if problem.index is None else f" sample {problem.index}"
        name = f" ({problem.id})" if problem.id else ""
        report_error(f"{file}: {problem.section}:{sample}{name} {problem.message}".replace(":  ", ": "))
    if problems:
        raise typer.Exit(2)
    print(f"{file}: sound{'' if deep else ' (structure; --deep also decodes every sample)'}")
