"""Provide what the recipes of image sets share: options, checks of a set's contents, and writing of missing betons.

A recipe describes its set (`DataSet`) and finds its images (`Find`). This module compares the two, class by class,
before it writes anything. Afterwards it compares the result with the odd files that the set is known to contain.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

from fastdc.beton import Manifest, load_manifest, write_beton
from fastdc.beton.classes import read_class_names
from fastdc.beton.convert_image import DEFAULT_QUALITY
from fastdc.beton.manifest import manifest_path, parse_manifest
from fastdc.beton.output_pair import check_beton_output
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.source import Opened
from fastdc.beton.sources.trees import Tree
from fastdc.common.errors import FastDCError, ManifestError, OutputError, SourceError, explain
from fastdc.common.log import log_message
from fastdc.recipes.expected import (
    DataSet,
    Split,
    check_names,
    compare_odd_files,
    count_repeated,
    find_problem,
    select_classes,
    unreadable,
)


class Found(NamedTuple):
    """One split of a source.

    Attributes:
        tree: its files; the caller closes it.
        contents: its images.
        classes: the classes that it should have; empty if nothing in the source lists them.
        made: additions to the manifest's `made`.
    """

    tree: Tree
    contents: Contents
    classes: tuple[str, ...] = ()
    made: Mapping[str, Any] = {}


Find = Callable[[argparse.Namespace, str], Found]
"""Function that finds a split ("train", "val") in `options.source`.

If the source is None, it downloads the set and stores the path there, or raises SourceError.
"""


def make_parser(description: str | None, data: DataSet) -> argparse.ArgumentParser:
    """Build a parser with the options that all recipes share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--source", type=Path, help="folder or archive with the images")
    add("--out", type=Path, default=Path("data") / data.name, help="folder for the betons (default: %(default)s)")
    add("--split", choices=[split.name for split in data.splits], help="only this one (default: both)")
    add("--resolution", type=int, help="shrink the shorter side to this many pixels; never enlarges")
    add("--encoding", choices=("keep", "jpg", "raw"), help="default: keep, with --resolution jpg")
    add("--quality", type=int, help=f"JPEG quality of --encoding jpg (default: {DEFAULT_QUALITY})")
    add("--workers", type=int, help="threads (default: one per CPU); the files are the same for any number")
    add("--classes", type=Path, metavar="FILE", help="only the classes named there, one per line (or a .beton's)")
    add("--allow-incomplete", action="store_true", help="accept other numbers of classes and images, with a note")
    add("--on-error", choices=("fail", "skip"), default="fail", help="skip: leave unreadable images out, with a note")
    add("--force", action="store_true", help="write again what is there already")
    add("--quiet", "-q", action="store_true", help="no progress")
    return parser


def run(data: DataSet, options: argparse.Namespace, find: Find) -> None:
    """Write the splits that do not exist yet; see `print_lines` for errors."""
    print_lines(write_splits(data, options, find), options.out)


def print_lines(lines: Iterable[str], out: Path) -> None:
    """Print the lines of a recipe at work. Exit with 2 and a one-line message on bad input, with 130 on Ctrl-C.

    Args:
        out: folder of the betons, for messages.
    """
    try:
        for line in lines:
            print(line, flush=True)
    except (FastDCError, OSError) as error:
        message, code = explain(error) or (f"{out}: {error}; check path and permissions", 2)
        log_message(f"error: {message}")
        sys.exit(code)
    except KeyboardInterrupt:
        log_message("interrupted; finished files are kept, and none is half written")
        sys.exit(130)


def write_splits(data: DataSet, options: argparse.Namespace, find: Find) -> Iterator[str]:
    """Check all splits that have to be written, then write them; yield a line about each.

    Raises:
        SourceError: the source cannot be found or read, or does not hold the expected contents.
        OutputError: a beton of another origin or with other options is in the way, or a beton cannot be written.
    """
    chosen = sorted(read_class_names(options.classes)) if options.classes else None
    classes: dict[str, Sequence[str]] = {}
    with ExitStack() as stack:
        ready: list[tuple[Split, Path, Opened]] = []
        for split in data.splits:
            if options.split not in (None, split.name):
                continue
            path = options.out / f"{split.name}.beton"
            done = find_done(path, data, options, chosen)
            if done is not None:
                classes[split.name] = done.classes
                yield f"{path}: {intact(len(done.ids))}"
                continue
            opened = prepare(data, split, options, find, chosen, stack)
            classes[split.name] = opened.contents.classes
            ready.append((split, path, opened))
        # All splits are found and checked before the first is written: writing ImageNet takes hours.
        check_agreement(classes, options)
        for _, path, _ in ready:
            options.out.mkdir(parents=True, exist_ok=True)
            check_beton_output(path, options.force or is_ours(path, data), [options.source])
        for split, path, opened in ready:
            yield write_split(data, split, path, opened, options)


def intact(images: int) -> str:
    """Describe a beton that need not be written again: its structure is sound, but its images are not decoded."""
    return f"is there, its structure is sound ({images:,} images); fastdc verify-beton --deep checks the images"


def find_done(path: Path, data: DataSet, options: argparse.Namespace, chosen: Sequence[str] | None) -> Manifest | None:
    """Return the manifest of a sound beton that this recipe wrote with these options; None if it must be written.

    Raises:
        OutputError: the beton is ours and sound, but has other options. It may have cost hours, so it is not replaced.
    """
    if options.force or not path.exists():
        return None
    try:
        manifest = load_manifest(path)
    except FastDCError:
        return None
    # A manifest without "source_complete" is judged by its "complete".
    made = {"source_complete": manifest.made.get("complete")} | manifest.made
    if (made.get("recipe"), made.get("recipe_version")) != (data.recipe, data.version):
        return None
    wanted = stored_form(options) | {"selection": None if chosen is None else len(chosen)} | options_of_set(options)
    if not options.allow_incomplete:
        wanted["source_complete"] = True
    other = [f"{key} {made.get(key)}, not {value}" for key, value in wanted.items() if made.get(key) != value]
    if unreadable(manifest) and options.on_error == "fail" and not options.allow_incomplete:
        other.append("with --on-error skip")
    if not other and chosen is not None and list(manifest.classes) != list(chosen):
        other = ["other classes"]
    if other:
        raise OutputError(
            f"{path}: was written with other options ({'; '.join(other)}); add --force to replace it, or choose "
            "another --out"
        )
    return manifest


def stored_form(options: argparse.Namespace) -> dict[str, Any]:
    """Return how images will be stored, in the manifest's terms."""
    encoding = options.encoding or ("keep" if options.resolution is None else "jpg")
    quality = (options.quality or DEFAULT_QUALITY) if encoding == "jpg" else None
    return {"encoding": encoding, "quality": quality, "resolution": options.resolution}


def options_of_set(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that only some sets have: the size of the published images."""
    size = getattr(options, "size", None)
    return {} if size is None else {"size": size}


def is_ours(path: Path, data: DataSet) -> bool:
    """Return whether this recipe made `path`, so that replacing a damaged or outdated file loses nothing."""
    try:
        return parse_manifest(manifest_path(path)).made.get("recipe") == data.recipe
    except ManifestError:
        return False


def prepare(
    data: DataSet, split: Split, options: argparse.Namespace, find: Find, chosen: Sequence[str] | None, stack: ExitStack
) -> Opened:
    """Find a split and compare it with its expected contents; its files stay open until `stack` ends.

    Raises:
        SourceError: names the first class that is missing, unknown or of the wrong size, and the difference.
    """
    found = find(options, split.name)
    stack.enter_context(closing(found.tree))
    contents, where = found.contents, f"{options.source}: {split.name}"
    check_names(contents.classes, data.classes or found.classes, where, data)
    if chosen is not None:
        contents = select_classes(contents, chosen, where)
    problem = find_problem(contents, data, split, chosen is not None, data.classes or found.classes)
    if problem and not options.allow_incomplete:
        raise SourceError(
            f"{where}: {problem}; get the missing files or take out the others, choose classes with --classes, or add "
            "--allow-incomplete"
        )
    if problem:
        log_message(f"note: {where}: {problem}")
    made = {"recipe": data.recipe, "recipe_version": data.version}
    # Two keys: the writer sets "complete" to false if it skips unreadable images, and leaves the other.
    made |= {"complete": problem is None, "source_complete": problem is None}
    made |= {"selection": None if chosen is None else len(chosen)} | options_of_set(options) | dict(found.made)
    return Opened(options.source, found.tree, contents, data.name, split.name, made)


def check_agreement(classes: Mapping[str, Sequence[str]], options: argparse.Namespace) -> None:
    """Refuse splits with different classes, because a network trained on one could not be evaluated on the other.

    Raises:
        SourceError: names the first difference.
    """
    (first, names), *others = list(classes.items()) or [("", ())]
    for split, found in others:
        differing = sorted(set(names).symmetric_difference(found))
        if differing:
            where, other = (first, split) if differing[0] in names else (split, first)
            raise SourceError(
                f"{options.source or options.out}: {len(differing)} classes are in one split only, the first is "
                f"{differing[0]} ({where}, not {other}); choose those wanted with --classes FILE"
            )


def write_split(data: DataSet, split: Split, path: Path, opened: Opened, options: argparse.Namespace) -> str:
    """Write one split, warn about unexpected odd files, and return a one-line report."""
    manifest = write_beton(
        opened,
        path,
        resolution=options.resolution,
        encoding=options.encoding,
        quality=options.quality,
        workers=options.workers,
        on_error=options.on_error,
        force=options.force or is_ours(path, data),
        show_progress=not options.quiet,
    )
    whole = opened.made["complete"] and opened.made["selection"] is None
    repeated, lost = count_repeated(manifest.hashes), unreadable(manifest)
    for line in compare_odd_files(manifest, repeated, data, split) if whole else ():
        log_message(f"warning: {path}: {line}")
    parts = [f"{len(manifest.ids):,} images", f"{len(manifest.classes):,} classes"]
    parts += [f"{manifest.image_bytes / 1e6:,.1f} MB"]
    parts += [f"{count:,} converted ({kind})" for kind, count in manifest.converted.items()]
    parts += [f"{lost:,} unreadable ones left out"] if lost else []
    parts += [f"{repeated:,} equal an earlier one byte for byte (kept)"] if repeated else []
    return f"{path}: written, {', '.join(parts)}"
