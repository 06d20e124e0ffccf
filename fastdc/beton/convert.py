"""Convert an image folder or archive to a `.beton`: many threads convert, one writes, and the order is fixed.

The module uses threads, not processes. The slow steps (reading, hashing, decoding, resizing, encoding) release the GIL:
only 0.1 ms of the 2.4 ms per resized image need it. No worker can crash alone and leave the others waiting, and nothing
is left behind in /dev/shm. Copying is the exception: a small file takes 35 us, half of them with the GIL held, so a
second thread gains nothing. Large folders are therefore copied by compiled code, many files per call (`bulk`). Keeping
the order costs nothing measurable.
"""

from collections import Counter, deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from fastdc._version import __version__
from fastdc.beton.format import MODE_JPEG
from fastdc.beton.images import Resize, check_pixels, encode_jpeg, read_image, resize_image, resize_many, resize_short
from fastdc.beton.jpeg_header import read_jpeg_header
from fastdc.beton.manifest import Manifest, Skipped
from fastdc.beton.output_pair import beton_output
from fastdc.beton.pages import BetonWriter, Payload, hash_payload
from fastdc.beton.sample_order import in_imagefolder
from fastdc.beton.sources.jpeg_folder import BUFFER_BYTES, Block, BulkReader, bulk_reader
from fastdc.beton.sources.open_source import open_source
from fastdc.beton.sources.source import Files, Opened
from fastdc.beton.sources.trees import Contents, Fetch, FileFetch, FolderTree
from fastdc.beton.texts import Texts
from fastdc.beton.writer import Origin, commit, make_payload
from fastdc.common.errors import ConfigError, OutputError, SourceError
from fastdc.common.log import progress
from fastdc.common.text import printable
from fastdc.common.threads import usable_cpus

Encoding = Literal["keep", "jpg", "raw"]
OnError = Literal["fail", "skip"]

MAX_LOSSLESS_BYTES = 4 << 20
"""Largest size at which `keep` stores raw pixels if it cannot copy the file; above, JPEG of quality 95, 4:4:4."""
DEFAULT_QUALITY = 90
MANY_IMAGES = 1000
"""Number of images from which loading the fast resizing kernel (0.4 s) pays off: it saves 0.8 ms per image."""
_KEEP_CHUNK, _CONVERT_CHUNK = 64, 4  # images per task: enough to hide the queue's cost, few enough for memory
_FIRST_CHUNK = 8  # until the size of the files is known
# A task that reaches this size leaves its other images to the consumer. With `bulk` it holds at most twice as much.
_CHUNK_BYTES = BUFFER_BYTES


@dataclass(frozen=True)
class Recipe:
    """How images are stored.

    Attributes:
        encoding: "keep", "jpg" or "raw".
        quality: JPEG quality of "jpg", 1..100.
        resolution: shorter side in pixels, or None.
        resize: function that shrinks an image; every choice gives the same pixels.
        bulk: reader of many files at a time for "keep", or None; the beton is the same either way.
    """

    encoding: Encoding
    quality: int
    resolution: int | None
    resize: Resize = resize_image
    bulk: BulkReader | None = None


class Converted(NamedTuple):
    """One image ready to be stored, or the reason why it cannot be."""

    number: int
    payload: Payload | None
    conversions: tuple[str, ...]
    reason: str


class Copied(NamedTuple):
    """Block of files to be stored unchanged; the first one is image `number`."""

    number: int
    block: Block


_Parts = list[Converted | Copied]
_Chunk = list[tuple[int, Fetch]]
_Result = tuple[_Parts, _Chunk]
"""Results of a chunk's first images, and the images that are left."""
_Task = tuple[Future[_Result], _Chunk]
"""Future result of a chunk, and the chunk itself."""


@dataclass
class _Tally:
    """Counts that the writing loop collects."""

    converted: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)


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
    force: bool = False,
    show_progress: bool = False,
) -> Manifest:
    """Write the images of a source as `out` and its manifest. The same input gives the same bytes for any `workers`.

    Transparency is dropped, as by torchvision's ImageFolder. Exif rotation is applied. 16-bit grey is scaled to 8 bits.

    "keep" is fast because it does not decode: it reads a JPEG's markers and checks that an end marker follows. A JPEG
    that is damaged in the middle is therefore copied unnoticed. `verify_beton(out, deep=True)` decodes every sample and
    finds it. The other encodings decode every image, so they find such damage while writing.

    Args:
        source: a folder `class/image` or `split/class/image`; a tar or zip archive of one; parquet shards; or one of
            these that `open_source` has already opened and checked.
        out: the `.beton`; its manifest X.json goes beside it.
        split: "train", "val", ...; required exactly if the source has splits (see `list_contents`, `find_shards`).
            Ignored for an opened source, as are `classes` and `allow_missing_classes`.
        classes: file that names classes 0, 1, ...: a beton, a manifest, or a text file with one name per line. Class
            folders are matched to these names.
        resolution: shrink so that the shorter side has this many pixels; nothing is enlarged or cropped.
        encoding: "keep" copies JPEG files unchanged and stores everything else losslessly as raw pixels; above 4 MiB it
            stores JPEG of quality 95 instead, which the manifest counts as converted["lossy"]. "jpg" encodes at
            `quality` with 4:2:0, as FFCV does. "raw" stores pixels. The default is "keep", or "jpg" if `resolution` is
            given.
        quality: JPEG quality of "jpg", 1..100; default 90.
        workers: number of converting threads; default one per CPU.
        on_error: "skip" leaves unreadable images out and lists them in the manifest; "fail" stops at the first one.
        allow_missing_classes: keep a class without images, whose folder is empty or, with `classes`, missing.
        force: replace an existing file, but never `source` or `classes` itself.
        show_progress: report progress on stderr.

    Raises:
        ConfigError: settings are out of range or contradict each other (a resolution with "keep").
        SourceError: the source is unusable or, with on_error="fail", so is one of its images.
        OutputError: `out` cannot be written.
    """
    out = Path(out)
    inputs = [source.path if isinstance(source, Opened) else Path(source), *([classes] if classes else [])]
    recipe = _make_recipe(encoding, quality, resolution)
    threads = _check_settings(workers, on_error)
    ready = (
        nullcontext(source)
        if isinstance(source, Opened)
        else open_source(inputs[0], split, classes, allow_missing_classes)
    )
    with beton_output(out, force, inputs) as handle, ready as opened:
        contents = opened.contents
        recipe = _choose_means(recipe, opened)
        writer = BetonWriter(handle, out, len(contents.items))
        tally = _Tally(skipped=list(map(_not_image, contents.ignored)))
        with progress(f"write {out.name}", len(contents.items), enabled=show_progress) as bar:
            for chunk in _convert_all(opened.files, contents, recipe, threads):
                for part in chunk:
                    if isinstance(part, Converted):
                        _store(part, contents, writer, tally, opened.path, on_error)
                    else:
                        _store_block(part, contents, writer, recipe)
                bar.advance(sum(1 if isinstance(part, Converted) else len(part.block.ends) for part in chunk))
        _check_filled(contents, writer, tally, opened.path)
        return _finish(handle, out, writer, tally, contents, _describe(opened, recipe, tally))


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


def _choose_means(recipe: Recipe, opened: Opened) -> Recipe:
    """Add the fast kernels to a recipe if the source has enough images to make up for loading them."""
    images = len(opened.contents.items)
    if recipe.encoding == "keep":
        return replace(recipe, bulk=bulk_reader(images)) if isinstance(opened.files, FolderTree) else recipe
    return replace(recipe, resize=resize_many) if images >= MANY_IMAGES else recipe


def _not_image(path: str) -> Skipped:
    return Skipped(path=printable(path), reason="not an image file", kind="not_image")


def _check_settings(workers: int | None, on_error: str) -> int:
    if workers is not None and workers < 1:
        raise ConfigError(f"workers {workers}, expected at least 1")
    if on_error not in get_args(OnError):
        raise ConfigError(f"on-error {on_error!r}, expected fail or skip")
    return workers or usable_cpus()


def _convert_all(files: Files, contents: Contents, recipe: Recipe, threads: int) -> Iterator[_Parts]:
    """Convert in threads, and yield the results in the order of `fetch_all`.

    The threads stay at most a fixed number of tasks ahead of the consumer. The consumer's own thread counts as one of
    them: instead of waiting, it converts tasks that have not started. Small files need little time without the GIL, so
    an extra thread would only compete for it.
    """
    tasks = files.fetch_all(contents.paths())
    most = _KEEP_CHUNK if recipe.encoding == "keep" else _CONVERT_CHUNK
    size = min(most, _FIRST_CHUNK)
    pending: deque[_Task] = deque()
    pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="fastdc-write") if threads > 1 else None
    try:
        while chunk := list(islice(tasks, size)):
            pending.append((pool.submit(_convert_chunk, chunk, recipe) if pool else Future(), chunk))
            if len(pending) > threads + 1:
                size = min(most, (yield from _take_whole(pending, recipe)))  # fewer images per task if they are large
        while pending:
            yield from _take_whole(pending, recipe)
    finally:
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)


def _take_whole(pending: deque[_Task], recipe: Recipe) -> Generator[_Parts, None, int]:
    """Yield all results of the first task, including the images it left over.

    Returns:
        How many images of this size fill `_CHUNK_BYTES`.
    """
    images, size = len(pending[0][1]), 0
    parts, rest = _take_first(pending, recipe)
    while True:
        size += sum(map(_count_bytes, parts))  # before the yield, because the consumer recycles the blocks
        yield parts
        if not rest:
            return max(1, _CHUNK_BYTES * images // max(1, size))
        parts, rest = _convert_chunk(rest, recipe)


def _count_bytes(part: Converted | Copied) -> int:
    if isinstance(part, Copied):
        return int(part.block.ends[-1])
    return 0 if part.payload is None else len(part.payload.data)


def _take_first(pending: deque[_Task], recipe: Recipe) -> _Result:
    """Return the first task's result. Until it is ready, this thread converts tasks that no other has started."""
    for place, (future, chunk) in enumerate(pending):
        if pending[0][0].done():
            break
        if future.cancel():  # fails once a thread has started it; without a pool it always succeeds
            pending[place] = (Future(), chunk)
            pending[place][0].set_result(_convert_chunk(chunk, recipe))
    return pending.popleft()[0].result()


def _convert_chunk(chunk: _Chunk, recipe: Recipe) -> _Result:
    """Convert images until they reach `_CHUNK_BYTES`; return the results and the images that are left."""
    parts: _Parts = []
    place, size = 0, 0
    try:
        for part in _convert_parts(chunk, recipe):
            parts.append(part)
            place += len(part.block.ends) if isinstance(part, Copied) else 1
            size += _count_bytes(part)
            if size >= _CHUNK_BYTES:
                break
        return parts, chunk[place:]
    except MemoryError as error:
        raise OutputError("out of memory while converting images; use fewer --workers") from error


def _convert_parts(chunk: _Chunk, recipe: Recipe) -> Iterator[Converted | Copied]:
    """Convert in order: blocks of ordinary files if a bulk reader is available, otherwise one image at a time."""
    if recipe.bulk is None:
        yield from (_convert(number, fetch, recipe) for number, fetch in chunk)
        return
    place = 0
    for block in recipe.bulk.read([fetch for _, fetch in chunk if isinstance(fetch, FileFetch)]):
        yield _convert(*chunk[place], recipe) if block is None else Copied(chunk[place][0], block)
        place += 1 if block is None else len(block.ends)


def _convert(number: int, fetch: Fetch, recipe: Recipe) -> Converted:
    """Convert one image. A failure becomes a `reason`, so that order and counting stay with the consumer."""
    try:
        payload, conversions = convert_image(fetch(), recipe)
    except OSError as error:
        return Converted(number, None, (), f"cannot be read ({error.strerror or error})")
    except SourceError as error:
        return Converted(number, None, (), str(error))
    return Converted(number, payload, conversions, "")


def convert_image(data: bytes, recipe: Recipe) -> tuple[Payload, tuple[str, ...]]:
    """Convert an image file to the payload to store, and name the conversions it needed.

    Raises:
        SourceError: the file is not an image, is truncated, or is too large.
    """
    if recipe.encoding == "keep":
        header = read_jpeg_header(data)
        if header is not None and header.common and header.complete and header.orientation == 1:
            check_pixels(header.height, header.width)
            return Payload(data, MODE_JPEG, header.height, header.width, hash_payload(data)), ()
    pixels, conversions = read_image(data)
    if recipe.resolution is not None:
        pixels = resize_short(pixels, recipe.resolution, recipe.resize)
    if recipe.encoding == "raw" or (recipe.encoding == "keep" and pixels.nbytes <= MAX_LOSSLESS_BYTES):
        return make_payload(pixels), conversions
    lossy = recipe.encoding == "keep"
    if max(pixels.shape) > 65_500:  # libjpeg's JPEG_MAX_DIMENSION
        raise SourceError(f"image of {pixels.shape[0]} x {pixels.shape[1]} pixels, JPEG holds at most 65500 a side")
    encoded = encode_jpeg(pixels, 95, "444") if lossy else encode_jpeg(pixels, recipe.quality, "420")
    payload = Payload(encoded, MODE_JPEG, pixels.shape[0], pixels.shape[1], hash_payload(encoded))
    return payload, (*conversions, "lossy") if lossy else conversions


def _store(
    converted: Converted, contents: Contents, writer: BetonWriter, tally: _Tally, source: Path, on_error: OnError
) -> None:
    """Append one result; or, depending on `on_error`, record it as skipped or raise."""
    number, payload, conversions, reason = converted
    if payload is not None:
        try:
            writer.append(payload, contents.items.label(number), number)
            if conversions:
                tally.converted.update(conversions)
            return
        except SourceError as error:
            reason = str(error)
    item = contents.items[number]
    if on_error == "fail":
        raise SourceError(
            f"{source}/{printable(contents.path(item))}: {reason}; repair or remove it, or use --on-error skip"
        )
    tally.skipped.append(Skipped(path=printable(item.id), reason=reason, kind="unreadable"))


def _store_block(copied: Copied, contents: Contents, writer: BetonWriter, recipe: Recipe) -> None:
    """Append a block of files, then recycle its memory."""
    labels = contents.items.labels(copied.number, len(copied.block.ends))
    writer.append_block(copied.block, labels, copied.number)
    if recipe.bulk is not None:
        recipe.bulk.recycle(copied.block)


def _check_filled(contents: Contents, writer: BetonWriter, tally: _Tally, source: Path) -> None:
    """Refuse a source if every image of some class was skipped.

    Raises:
        SourceError: names the class, and its first image with the problem found.
    """
    counts = writer.count_labels(len(contents.classes))
    for label, name in enumerate(contents.classes):
        if counts[label] or label in contents.empty:
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
    """Number the stored images without gaps, and complete the file."""
    stored = writer.renumber()
    ids = contents.items.ids
    if len(stored) < len(ids) or not ids.is_utf8():  # JSON cannot hold file names that are not UTF-8
        ids = Texts.of(printable(ids[number]) for number in stored.tolist())
    skipped = sorted(tally.skipped, key=lambda skipped: skipped.path)
    return commit(handle, out, writer, origin, ids, tally.converted, skipped)


def _describe(opened: Opened, recipe: Recipe, tally: _Tally) -> Origin:
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
    return Origin(printable(opened.dataset), opened.split, printable(opened.files.name), classes, made, {}, order)
