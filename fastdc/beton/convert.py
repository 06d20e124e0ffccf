"""From an image folder or archive to a `.beton`: many threads convert, one writes, the order is fixed.

Threads, not processes: reading, hashing, decoding, resizing and encoding all release the GIL (0.1 ms of 2.4 ms per
resized image hold it), no worker can die alone and leave the others waiting, and nothing is left in /dev/shm.
"""

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from fastdc.beton.archives import open_tree
from fastdc.beton.format import MODE_JPEG
from fastdc.beton.images import Resize, check_pixels, encode_jpeg, read_image, resize_image, resize_many, resize_short
from fastdc.beton.jpeg import read_jpeg_header
from fastdc.beton.manifest import Manifest, Skipped
from fastdc.beton.output import beton_output
from fastdc.beton.sources import Contents, Fetch, Tree, list_contents
from fastdc.beton.writer import BetonWriter, Origin, Payload, commit, make_payload, printable
from fastdc.errors import ConfigError, OutputError, SourceError
from fastdc.hashing import bytes_key
from fastdc.progress import progress
from fastdc.threads import usable_cpus

Encoding = Literal["keep", "jpg", "raw"]
OnError = Literal["fail", "skip"]

MAX_LOSSLESS_BYTES = 4 << 20
"""`keep` stores what it must convert as raw pixels up to this size, above as JPEG of quality 95, 4:4:4."""
DEFAULT_QUALITY = 90
MANY_IMAGES = 2000
"""From this number of images on, loading the fast resizing kernel pays."""
_KEEP_CHUNK, _CONVERT_CHUNK = 64, 4  # images per task: enough to hide the queue, few enough to keep memory small


@dataclass(frozen=True)
class Recipe:
    """How images are stored.

    Attributes:
        encoding: "keep", "jpg" or "raw".
        quality: JPEG quality of "jpg", 1..100.
        resolution: shorter side in pixels, or None.
        resize: how to shrink; every choice gives the same pixels.
    """

    encoding: Encoding
    quality: int
    resolution: int | None
    resize: Resize = resize_image


class Converted(NamedTuple):
    """One image made ready, or why it could not be."""

    number: int
    payload: Payload | None
    conversions: tuple[str, ...]
    reason: str


@dataclass
class _Tally:
    """What the writing loop counts up; ids and hashes are in sample order at the end."""

    converted: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)


def write_beton(
    source: Path,
    out: Path,
    *,
    split: str | None = None,
    resolution: int | None = None,
    encoding: Encoding | None = None,
    quality: int | None = None,
    workers: int | None = None,
    on_error: OnError = "fail",
    force: bool = False,
    show_progress: bool = False,
) -> Manifest:
    """Write the images of a folder or archive as `out` and its manifest. Same input, same bytes, for any `workers`.

    Transparency is dropped, as by torchvision's ImageFolder; Exif rotation is applied; 16-bit grey is scaled to 8 bits.

    "keep" is fast because it does not decode: it reads a JPEG's markers and checks that its end is there. So a JPEG
    that is damaged in the middle is copied as it is; `verify_beton(out, deep=True)`, which decodes every sample, names
    it afterwards. The other encodings decode, and meet such damage while writing.

    Args:
        source: folder `class/image` or `split/class/image`, or a tar or zip archive of one.
        out: the `.beton`; its manifest X.json goes beside it.
        split: "train", "val", ...: needed exactly when the source has such folders; see `list_contents`.
        resolution: shrink so that the shorter side has this many pixels; nothing is enlarged or cropped.
        encoding: "keep" copies JPEG files untouched and stores all else losslessly (raw; above 4 MiB as JPEG of quality
            95, which the manifest counts as converted["lossy"]); "jpg" encodes at `quality`, 4:2:0, as FFCV does;
            "raw" stores pixels. Default "keep", with `resolution` "jpg".
        quality: JPEG quality of "jpg", 1..100; default 90.
        workers: threads that convert; default one per CPU.
        on_error: "skip" leaves unreadable images out and lists them in the manifest; "fail" stops at the first.
        force: replace an existing file, but never `source` itself.
        show_progress: report on stderr.

    Raises:
        ConfigError: settings out of range or at odds with each other (a quality for what is not encoded).
        SourceError: the source, or with on_error="fail" one of its images, cannot be used.
        OutputError: `out` cannot be written.
    """
    source, out = Path(source), Path(out)
    recipe = _make_recipe(encoding, quality, resolution)
    threads = _check_settings(workers, on_error)
    with beton_output(out, force, [source]) as handle, closing(open_tree(source)) as tree:
        contents = list_contents(tree, source, split)
        if len(contents.items) >= MANY_IMAGES:
            recipe = replace(recipe, resize=resize_many)
        writer = BetonWriter(handle, out, len(contents.items))
        tally = _Tally(skipped=list(map(_not_image, contents.ignored)))
        with progress(f"write {out.name}", len(contents.items), enabled=show_progress) as bar:
            for converted in _convert_all(tree, contents, recipe, threads):
                _store(converted, contents, writer, tally, source, on_error)
                bar.advance()
        _check_filled(contents, tally, source)
        return _finish(handle, out, writer, tally, contents, _describe(tree, contents, split, recipe))


def _make_recipe(encoding: Encoding | None, quality: int | None, resolution: int | None) -> Recipe:
    if encoding is not None and encoding not in get_args(Encoding):
        raise ConfigError(f"encoding {encoding!r}, expected keep, jpg or raw")
    if encoding == "keep" and resolution is not None:
        raise ConfigError("encoding keep copies images untouched, but a resolution was given; use jpg or raw")
    if resolution is not None and not 1 <= resolution <= 65_535:
        raise ConfigError(f"resolution {resolution}, expected 1..65535 pixels")
    if quality is not None and not 1 <= quality <= 100:
        raise ConfigError(f"quality {quality}, expected 1..100")
    chosen: Encoding = encoding or ("keep" if resolution is None else "jpg")
    return Recipe(chosen, DEFAULT_QUALITY if quality is None else quality, resolution)


def _not_image(path: str) -> Skipped:
    return Skipped(path=printable(path), reason="not an image file", kind="not_image")


def _check_settings(workers: int | None, on_error: str) -> int:
    if workers is not None and workers < 1:
        raise ConfigError(f"workers {workers}, expected at least 1")
    if on_error not in get_args(OnError):
        raise ConfigError(f"on-error {on_error!r}, expected fail or skip")
    return workers or usable_cpus()


def _convert_all(tree: Tree, contents: Contents, recipe: Recipe, threads: int) -> Iterator[Converted]:
    """Convert in threads; results come in the order of `Tree.fetch_all`, a bounded number ahead of the consumer."""
    tasks = tree.fetch_all(map(contents.path, contents.items))
    size = _KEEP_CHUNK if recipe.encoding == "keep" else _CONVERT_CHUNK
    pending: deque[Future[list[Converted]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fastdc-write")
    try:
        while chunk := list(islice(tasks, size)):
            pending.append(pool.submit(_convert_chunk, chunk, recipe))
            if len(pending) > threads + 2:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _convert_chunk(chunk: Iterable[tuple[int, Fetch]], recipe: Recipe) -> list[Converted]:
    return [_convert(number, fetch, recipe) for number, fetch in chunk]


def _convert(number: int, fetch: Fetch, recipe: Recipe) -> Converted:
    """One image; a file that cannot be used becomes a `reason`, so that order and counting stay with the consumer."""
    try:
        payload, conversions = convert_image(fetch(), recipe)
    except OSError as error:
        return Converted(number, None, (), f"cannot be read ({error.strerror or error})")
    except SourceError as error:
        return Converted(number, None, (), str(error))
    except MemoryError as error:
        raise OutputError("out of memory while converting images; use fewer --workers") from error
    return Converted(number, payload, conversions, "")


def convert_image(data: bytes, recipe: Recipe) -> tuple[Payload, tuple[str, ...]]:
    """An image file made ready for storing, and what had to be converted.

    Raises:
        SourceError: the file is not an image, is cut off, or is too large.
    """
    if recipe.encoding == "keep":
        header = read_jpeg_header(data)
        if header is not None and header.common and header.complete and header.orientation == 1:
            check_pixels(header.height, header.width)
            return Payload(data, MODE_JPEG, header.height, header.width, bytes_key(data)), ()
    pixels, conversions = read_image(data)
    if recipe.resolution is not None:
        pixels = resize_short(pixels, recipe.resolution, recipe.resize)
    if recipe.encoding == "raw" or (recipe.encoding == "keep" and pixels.nbytes <= MAX_LOSSLESS_BYTES):
        return make_payload(pixels), conversions
    lossy = recipe.encoding == "keep"
    if max(pixels.shape) > 65_500:
        raise SourceError(f"image of {pixels.shape[0]} x {pixels.shape[1]} pixels, JPEG holds at most 65500 a side")
    encoded = encode_jpeg(pixels, 95, "444") if lossy else encode_jpeg(pixels, recipe.quality, "420")
    payload = Payload(encoded, MODE_JPEG, pixels.shape[0], pixels.shape[1], bytes_key(encoded))
    return payload, (*conversions, "lossy") if lossy else conversions


def _store(
    converted: Converted, contents: Contents, writer: BetonWriter, tally: _Tally, source: Path, on_error: OnError
) -> None:
    """Append one result, or skip it, or fail."""
    item = contents.items[converted.number]
    reason = converted.reason
    if converted.payload is not None:
        try:
            writer.append(converted.payload, item.label, converted.number)
        except SourceError as error:
            reason = str(error)
    if not reason and converted.payload is not None:
        tally.hashes[converted.number] = converted.payload.hash
        tally.converted.update(converted.conversions)
    elif on_error == "fail":
        raise SourceError(
            f"{source}/{printable(contents.path(item))}: {reason}; repair or remove it, or use --on-error skip"
        )
    else:
        tally.skipped.append(Skipped(path=printable(item.id), reason=reason, kind="unreadable"))


def _check_filled(contents: Contents, tally: _Tally, source: Path) -> None:
    """Refuse a source of which some class lost all its images.

    Raises:
        SourceError: names the class, and the first of its images with what is wrong with it.
    """
    filled = {contents.items[number].label for number in tally.hashes}
    for label, name in enumerate(contents.classes):
        if label in filled:
            continue
        lost = {printable(item.id) for item in contents.items if item.label == label}
        first = min(skipped for skipped in map(_as_pair, tally.skipped) if skipped[0] in lost)
        where = "/".join(printable(part) for part in (str(source), contents.root, name) if part)
        raise SourceError(
            f"{where}: class {printable(name)!r}: none of its {len(lost)} images can be read, expected at least one; "
            f"the first, {first[0]}: {first[1]}; repair them or remove the folder"
        )


def _as_pair(skipped: Skipped) -> tuple[str, str]:
    return skipped.path, skipped.reason


def _finish(handle: Any, out: Path, writer: BetonWriter, tally: _Tally, contents: Contents, origin: Origin) -> Manifest:
    """Number the stored images without gaps and complete the file."""
    numbers = sorted(tally.hashes)
    writer.renumber(numbers)
    return commit(
        handle,
        out,
        writer,
        origin,
        [printable(contents.items[number].id) for number in numbers],
        [tally.hashes[number] for number in numbers],
        tally.converted,
        sorted(tally.skipped, key=lambda skipped: skipped.path),
    )


def _version() -> str:
    try:
        return metadata.version("fastdc")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"


def _describe(tree: Tree, contents: Contents, split: str | None, recipe: Recipe) -> Origin:
    made = {
        "tool": "fastdc write-beton",
        "version": _version(),
        "encoding": recipe.encoding,
        "quality": recipe.quality if recipe.encoding == "jpg" else None,
        "resolution": recipe.resolution,
    }
    name = printable(tree.name)
    dataset = re.sub(r"(\.(tar|zip|tgz|tbz2?|txz|gz|bz2|xz|zst))+$", "", name)
    return Origin(dataset or name, split, name, tuple(map(printable, contents.classes)), made, {})
