"""Convert images in threads, and hand them on in their order.

The module uses threads, not processes. The slow steps (reading, hashing, decoding, resizing, encoding) release the GIL:
only 0.1 ms of the 2.4 ms per resized image need it. No worker can crash alone and leave the others waiting, and nothing
is left behind in /dev/shm. Copying is the exception: a small file takes 35 us, half of them with the GIL held, so a
second thread gains nothing. The files of a large folder are therefore read by compiled code, many per call. Keeping the
order costs nothing measurable.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from fastdc.beton.convert_image import Recipe, convert_image
from fastdc.beton.pages import Payload
from fastdc.beton.sources.class_folders import Contents
from fastdc.beton.sources.reading_ahead import FetchHashed
from fastdc.beton.sources.source import FetchImage, Files
from fastdc.common.errors import OutputError, SourceError

_KEEP_CHUNK, _CONVERT_CHUNK = 64, 4  # images per task: enough to hide the queue's cost, few enough for memory
_FIRST_CHUNK = 8  # until the size of the files is known
_CHUNK_BYTES = 8 << 20  # a task that reaches this size leaves its other images to the consumer


class Converted(NamedTuple):
    """One image ready to be stored, or the reason why it cannot be."""

    number: int
    payload: Payload | None
    conversions: tuple[str, ...]
    reason: str


_Chunk = list[tuple[int, FetchImage]]
_Result = tuple[list[Converted], _Chunk]
"""Results of a chunk's first images, and the images that are left."""
_Task = tuple[Future[_Result], _Chunk]
"""Future result of a chunk, and the chunk itself."""


def convert_all(files: Files, contents: Contents, recipe: Recipe, threads: int) -> Iterator[list[Converted]]:
    """Convert in threads, and yield the results in the order of `fetch_all`.

    At most a fixed number of tasks wait for the consumer. The consumer's own thread counts as one of the threads:
    instead of waiting, it converts tasks that have not started. Small files need little time without the GIL, so an
    extra thread would only compete for it.
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


def _take_whole(pending: deque[_Task], recipe: Recipe) -> Generator[list[Converted], None, int]:
    """Yield all results of the first task, including the images it left over.

    Returns:
        How many images of this size fill `_CHUNK_BYTES`.
    """
    images, size = len(pending[0][1]), 0
    parts, rest = _take_first(pending, recipe)
    while True:
        size += sum(map(_count_bytes, parts))
        yield parts
        if not rest:
            return max(1, _CHUNK_BYTES * images // max(1, size))
        parts, rest = _convert_chunk(rest, recipe)


def _count_bytes(converted: Converted) -> int:
    return 0 if converted.payload is None else len(converted.payload.data)


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
    parts: list[Converted] = []
    size = 0
    try:
        numbers, fetches = zip(*chunk, strict=True)
        for number, fetch in zip(numbers, recipe.read(fetches) if recipe.read else fetches, strict=True):
            parts.append(_convert(number, fetch, recipe))
            size += _count_bytes(parts[-1])
            if size >= _CHUNK_BYTES:
                break
        return parts, chunk[len(parts) :]
    except MemoryError as error:
        raise OutputError("out of memory while converting images; use fewer --workers") from error


def _convert(number: int, fetch: FetchHashed, recipe: Recipe) -> Converted:
    """Convert one image. A failure becomes a `reason`, so that order and counting stay with the consumer."""
    try:
        payload, conversions = convert_image(fetch(), recipe)
    except OSError as error:
        return Converted(number, None, (), f"cannot be read ({error.strerror or error})")
    except SourceError as error:
        return Converted(number, None, (), str(error))
    return Converted(number, payload, conversions, "")
