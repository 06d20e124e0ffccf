"""Export the images of a beton: find the layout, check the output, write all or nothing."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fastdc.beton.export.layout import ExportSet, Layout
from fastdc.beton.exported import RECORD, parse_record
from fastdc.beton.manifest import Manifest, load_manifest, manifest_path
from fastdc.beton.reader import BetonFile
from fastdc.common.errors import ConfigError, ManifestError, OutputError
from fastdc.common.files import atomic_file, check_not_input, check_output, check_place
from fastdc.common.folders import atomic_folder
from fastdc.common.registry import Registry


class ExportResult(NamedTuple):
    """Description of an export.

    Attributes:
        manifest: manifest of the exported beton.
        files: number of files written.
        bytes: bytes of these files.
        notes: lines for the user: what a reader of the export has to know, or a command to run.
    """

    manifest: Manifest
    files: int
    bytes: int
    notes: list[str]


@cache
def layouts() -> Registry[Layout]:
    """Return the layouts of `fastdc.beton.export.layouts`."""
    registry: Registry[Layout] = Registry("layout", Layout, lambda layout: layout.name, ConfigError)
    registry.load_folder("fastdc.beton.export.layouts")
    return registry


def export_images(
    beton: Path, out: Path, layout: str, *, references: Sequence[str] = (), force: bool = False
) -> ExportResult:
    """Write the images of a beton as `out`, with the record that restores the beton.

    Args:
        beton: the beton; its manifest is beside it.
        out: folder to write, or file for layouts of one file.
        layout: name of the layout.
        references: BibTeX entries of what made the set.
        force: replace an earlier export. A folder that is not an export is never replaced.

    Raises:
        BetonError: the beton is damaged.
        ManifestError: its manifest is missing, damaged, or belongs to another beton.
        ConfigError: there is no such layout.
        OutputError: `out` may not or cannot be written, or this set has no such layout.
        SourceError: a library that the layout needs is not installed.
    """
    form = layouts().get(layout)
    beton, out = Path(beton), Path(os.path.abspath(out))
    manifest = load_manifest(beton)
    inputs = [beton, manifest_path(beton)]
    with BetonFile(beton) as file:
        images = ExportSet(beton, file, manifest, out.name.removesuffix(form.suffix or ""), references)
        with _output(out, form, force, inputs) as place:
            form.write(images, place)
        return ExportResult(manifest, *_measure(out), form.notes(images, out))


@contextmanager
def _output(out: Path, form: Layout, force: bool, inputs: Sequence[Path]) -> Iterator[Path]:
    """Check that `out` may be written, and yield a temporary file or folder that becomes `out`."""
    if form.suffix is not None:
        if out.suffix != form.suffix and not out.is_dir():
            raise OutputError(f"{out}: does not end in {form.suffix}; call the file {out.name}{form.suffix}")
        check_output(out, force, inputs)
        with atomic_file(out) as handle:
            yield Path(handle.name)
        return
    check_not_input(out, inputs)
    _check_folder(out, force)
    with atomic_folder(out) as folder:
        yield folder


def _check_folder(out: Path, force: bool) -> None:
    """Refuse to write a folder where something else lies; with `force`, an unchanged export may be replaced."""
    check_place(out)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out}: is a file or a link, expected the name of a folder to write; choose another name")
    if not out.exists() or not any(out.iterdir()):
        return
    if not force:
        raise OutputError(f"{out}: exists already; choose another name, or add --force to replace an export")
    try:
        record = parse_record((out / RECORD).read_bytes(), out / RECORD)
    except (OSError, ManifestError) as error:
        raise OutputError(
            f"{out}: exists and is not an export (no sound {RECORD} in it), so --force does not replace it; "
            "remove it yourself or choose another name"
        ) from error
    form, names = layouts().parts.get(record.layout), list(_files(out))
    own = [name for name in names if name == RECORD or (form is not None and form.may_hold(name, record))]
    if len(own) < len(names):
        first = min(set(names).difference(own))
        found = f"{len(names) - len(own):,} files that are not the export's, such as {first}"
        raise OutputError(f"{out}: holds {found}; move them out of it, or choose another name")
    if len(own) > record.files:
        raise OutputError(
            f"{out}: holds {len(own):,} files, the export wrote {record.files:,}; move the others out of it, or choose "
            "another name"
        )


def _files(out: Path) -> Iterator[str]:
    """Yield the path of every file in a folder, relative to it, with slashes."""
    for folder, _, names in os.walk(out):
        yield from (Path(folder, name).relative_to(out).as_posix() for name in names)


def _measure(out: Path) -> tuple[int, int]:
    """Return the number and the bytes of the files in `out`."""
    if out.is_file():
        return 1, out.stat().st_size
    sizes = [os.lstat(out / name).st_size for name in _files(out)]
    return len(sizes), sum(sizes)
