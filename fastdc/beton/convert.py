"""Convert the images of a source to a `.beton`: many threads convert, one writes, and the order is fixed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, get_args

import numpy as np

from fastdc._version import __version__
from fastdc.beton.classes import read_class_names
from fastdc.beton.convert_image import Recipe, make_recipe
from fastdc.beton.convert_threads import Converted, convert_all
from fastdc.beton.exported import RECORD
from fastdc.beton.hints import parse_hints
from fastdc.beton.manifest import Manifest, Skipped
from fastdc.beton.output_pair import beton_output
from fastdc.beton.pages import BetonWriter
from fastdc.beton.resize_images import resize_many
from fastdc.beton.restore import restore_beton
from fastdc.beton.sample_order import in_imagefolder
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.open_source import open_source
from fastdc.beton.sources.reading_ahead import choose_reading
from fastdc.beton.sources.source import Opened
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.beton.texts import Texts, place_in
from fastdc.beton.writer import Origin, commit
from fastdc.common.choices import Encoding, OnError
from fastdc.common.errors import ConfigError, SourceError
from fastdc.common.log import progress, progress_shown
from fastdc.common.text import printable
from fastdc.common.threads import usable_cpus

MANY_IMAGES = 1000
"""Number of images from which loading the fast resizing kernel (0.4 s) pays off: it saves 0.8 ms per image."""


@dataclass
class _Tally:
    """Counts that the writing loop collects."""

    skipped: list[Skipped]
    converted: Counter[str] = field(default_factory=Counter)


def write_beton(
    source: Path | Opened,
    out: Path,
    *,
    split: str | None = None,
    classes: Path | None = None,
    resolution: int | None = None,
    encoding: Encoding | None = None,
    quality: int | None = None,
    workers: int | None = None,
    on_error: OnError = "fail",
    allow_missing_classes: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    hints: Sequence[str] = (),
    force: bool = False,
    show_progress: bool = False,
) -> Manifest:
    """Write the images of a source as `out` and its manifest. The same input gives the same bytes for any `workers`.

    Transparency is dropped, as by torchvision's ImageFolder. Exif rotation is applied. 16-bit grey is scaled to 8 bits.

    "keep" is fast because it does not decode: it reads a JPEG's markers and checks that an end marker follows. A JPEG
    that is damaged in the middle is therefore copied unnoticed. `verify_beton(out, deep=True)` decodes every sample and
    finds it. The other encodings decode every image, so they find such damage while writing.

    An export of fastdc is restored unchanged: images, order, classes, hints and provenance.

    Args:
        source: a source of any kind that `fastdc list sources` lists, such as a folder `class/image`; or one that
            `open_source` has already opened and checked.
        out: the `.beton`; its manifest X.json goes beside it.
        split: "train", "val", ...; required exactly if the source has splits (see `list_contents`, `find_shards`).
            Ignored for an opened source, as are the other options of `SourceOptions`.
        classes: file that names classes 0, 1, ...: a beton, a manifest, or a text file with one name per line. Class
            folders are matched to these names.
        resolution: shrink so that the shorter side has this many pixels; nothing is enlarged or cropped.
        encoding: "keep" copies JPEG files unchanged and stores everything else losslessly as raw pixels; above 4 MiB it
            stores JPEG of quality 95 instead, which the manifest counts as converted["lossy"]. "jpg" encodes at
            `quality` with 4:2:0, as FFCV does. "raw" stores pixels. The default is "keep", or "jpg" if `resolution` is
            given.
        quality: JPEG quality of "jpg", 1..100; default 90.
        workers: number of converting threads; default one per CPU.
        on_error: "skip" leaves images out that are unreadable or have no usable label, and lists them in the manifest;
            "fail" stops at the first one.
        allow_missing_classes: keep a class without images, whose folder is empty or, with `classes`, missing.
        image_column, label_column: names of the columns of a table or of parquet shards; see `SourceOptions`.
        mean, std: standardisation that arrays of floats have undergone, which is undone; see `SourceOptions`.
        hints: training hints of a set of mosaics, such as "tile_grid=2"; see `parse_hints`.
        force: replace an existing file, but never `source` or `classes` itself.
        show_progress: report progress on stderr.

    Raises:
        ConfigError: settings are out of range or contradict each other (a resolution with "keep").
        SourceError: the source is unusable or, with on_error="fail", so is one of its images.
        OutputError: `out` cannot be written.
    """
    out = Path(out)
    options = SourceOptions(
        split=split,
        classes=None if classes is None else read_class_names(classes),
        allow_missing_classes=allow_missing_classes,
        image_column=image_column,
        label_column=label_column,
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
    )
    inputs = [source.path if isinstance(source, Opened) else Path(source), *([classes] if classes else [])]
    own_hints = parse_hints(hints)
    recipe = make_recipe(encoding, quality, resolution)
    threads = _check_settings(workers, on_error)
    ready = nullcontext(source) if isinstance(source, Opened) else open_source(inputs[0], options)
    with progress_shown(show_progress), beton_output(out, force, inputs) as handle, ready as opened:
        if opened.exported is not None:
            _check_untouched(opened, recipe, own_hints)
            return restore_beton(handle, out, opened, opened.exported)
        return _write(handle, out, opened, recipe, threads, on_error, own_hints)


def _write(
    handle: IO[bytes],
    out: Path,
    opened: Opened,
    recipe: Recipe,
    threads: int,
    on_error: OnError,
    hints: Mapping[str, Any],
) -> Manifest:
    """Convert and store the images of an opened source."""
    contents = opened.contents
    recipe = _choose_means(recipe, len(contents.ids))
    writer = BetonWriter(handle, out, len(contents.ids))
    ignored = map(printable, contents.ignored)
    tally = _Tally([Skipped(path=path, reason="not an image file", kind="not_image") for path in ignored])
    with progress(f"write {out.name}", len(contents.ids)) as bar:
        for chunk in convert_all(opened.files, contents, recipe, threads):
            for converted in chunk:
                _store(converted, contents, writer, tally, opened.path, on_error)
            bar.advance(len(chunk))
    _check_filled(contents, writer, tally, opened.path)
    return _finish(handle, out, writer, tally, contents, _describe(opened, recipe, tally, hints))


def _choose_means(recipe: Recipe, images: int) -> Recipe:
    """Choose the fast kernels if the set is large enough to repay loading them."""
    if recipe.encoding == "keep":
        return replace(recipe, read=choose_reading(images))
    return replace(recipe, resize=resize_many) if images >= MANY_IMAGES else recipe


def _check_settings(workers: int | None, on_error: str) -> int:
    if workers is not None and workers < 1:
        raise ConfigError(f"workers {workers}, expected at least 1")
    if on_error not in get_args(OnError):
        raise ConfigError(f"on-error {on_error!r}, expected fail or skip")
    return workers or usable_cpus()


def _check_untouched(opened: Opened, recipe: Recipe, hints: Mapping[str, Any]) -> None:
    if recipe.encoding != "keep" or hints:
        raise ConfigError(
            f"{opened.path}: is an export of fastdc, which is restored unchanged; leave --encoding, --resolution and "
            f"--hint out, or remove {RECORD} to write its images as any others"
        )


def _store(
    converted: Converted, contents: Contents, writer: BetonWriter, tally: _Tally, source: Path, on_error: OnError
) -> None:
    """Append one result; or, depending on `on_error`, record it as skipped or raise."""
    number, payload, conversions, reason = converted
    label = int(contents.labels[number])
    usable = 0 <= label < len(contents.classes)
    if payload is not None and not usable:
        reason = f"label {label}, expected 0..{len(contents.classes) - 1}"
    elif payload is not None:
        try:
            writer.append(payload, label, number)
            if conversions:
                tally.converted.update(conversions)
            return
        except SourceError as error:
            reason = str(error)
    name = printable(contents.ids[number])
    if on_error == "fail":
        where = place_in(source, printable(contents.root), name)
        advice = "repair or remove it" if usable else "correct or remove it"
        raise SourceError(f"{where}: {reason}; {advice}, or use --on-error skip")
    tally.skipped.append(Skipped(path=name, reason=reason, kind="unreadable"))


def _check_filled(contents: Contents, writer: BetonWriter, tally: _Tally, source: Path) -> None:
    """Refuse a source if every image of some class was skipped.

    Raises:
        SourceError: names the class, and its first image with the problem found.
    """
    counts = writer.count_labels(len(contents.classes))
    for label, name in enumerate(contents.classes):
        if counts[label] or label in contents.empty:
            continue
        lost = {printable(contents.ids[number]) for number in np.flatnonzero(contents.labels == label).tolist()}
        first = min((skipped.path, skipped.reason) for skipped in tally.skipped if skipped.path in lost)
        raise SourceError(
            f"{place_in(source, printable(contents.root))}: class {printable(name)!r}: none of its {len(lost)} images "
            f"can be read, expected at least one; the first, {first[0]}: {first[1]}; repair them, or take the class "
            "out of the source"
        )


def _finish(
    handle: IO[bytes], out: Path, writer: BetonWriter, tally: _Tally, contents: Contents, origin: Origin
) -> Manifest:
    """Number the stored images without gaps, and complete the file."""
    stored = writer.renumber()
    ids = contents.ids
    if len(stored) < len(ids) or not ids.is_utf8():  # JSON cannot hold file names that are not UTF-8
        ids = Texts.of(printable(ids[number]) for number in stored.tolist())
    skipped = sorted(tally.skipped, key=lambda skipped: skipped.path)
    return commit(handle, out, writer, origin, ids, tally.converted, skipped)


def _describe(opened: Opened, recipe: Recipe, tally: _Tally, hints: Mapping[str, Any]) -> Origin:
    made = {
        "tool": "fastdc write-beton",
        "version": __version__,
        "encoding": recipe.encoding,
        "quality": recipe.quality if recipe.encoding == "jpg" else None,
        "resolution": recipe.resolution,
        **opened.made,
    }
    if made.get("complete") and any(skipped.kind == "unreadable" for skipped in tally.skipped):
        made["complete"] = False
    classes = tuple(map(printable, opened.contents.classes))
    lost = any(skipped.kind == "unreadable" and in_imagefolder(skipped.path) for skipped in tally.skipped)
    order = "own" if lost else opened.contents.order
    source = printable(opened.files.name)
    return Origin(printable(opened.dataset), opened.split, source, classes, made, dict(hints), order)
