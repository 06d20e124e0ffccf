"""Write zip and tar.gz archives whose bytes depend on their content alone, and read such archives with suspicion."""

import gzip
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from fastdc.beton.format import DEFAULT_PAGE_SIZE
from fastdc.beton.sources.archive_tree import DAMAGE
from fastdc.common.errors import BundleError, FastDCError, OutputError
from fastdc.common.files import atomic_file
from fastdc.common.text import one_line, plain

SUFFIXES = (".zip", ".tar.gz", ".tgz")
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Earliest time that a zip can hold; every member gets it."""
MAX_MEMBERS = 100_000
PIECE = 1 << 20
"""Most bytes that are read at once. The tar reader reads headers whole, so no header may be larger."""
MAX_RATIO, FREE_BYTES = 200, 64 << 20
"""An archive may unpack to this many times its size, and to the free bytes in any case; text packs 2 to 20 times.

A page of each beton is not counted, because the last one of a small set is nearly empty and packs 1000 times.
"""

STOPPED = "reading stopped there; get the bundle again"

Content = bytes | Path


class Member(NamedTuple):
    """File in an archive: name, size in bytes, and the pieces of its content, until the next member is taken."""

    name: str
    size: int
    pieces: Iterator[bytes]


class Packed(NamedTuple):
    """Part of a bundle: the files that it adds, facts for the index, and notes on what is missing."""

    members: dict[str, Content]
    facts: Any
    notes: list[str]


def check_suffix(out: Path) -> None:
    """Refuse an output that is named neither as a zip nor as a tar.gz.

    Raises:
        OutputError: the name has another suffix.
    """
    if not is_archive_name(out):
        raise OutputError(f"{out}: expected a name that ends in {' or '.join(SUFFIXES[:2])}")


def is_archive_name(path: Path) -> bool:
    """Return whether a path is named as an archive that this module reads."""
    return path.name.lower().endswith(SUFFIXES)


def write_archive(out: Path, members: Mapping[str, Content]) -> None:
    """Write an archive in the order of `members`, with fixed times, owners and permissions.

    Raises:
        OutputError: the disk is full.
    """
    with atomic_file(out) as handle:
        if out.name.lower().endswith(".zip"):
            _write_zip(handle, members)
        else:
            _write_tar(handle, members)


def _write_zip(handle: IO[bytes], members: Mapping[str, Content]) -> None:
    with zipfile.ZipFile(handle, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, ZIP_TIME)
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # 3: Unix, on every system
            info.compress_type = zipfile.ZIP_DEFLATED
            info.file_size = _size(content)
            with _opened(content) as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target)


def _write_tar(handle: IO[bytes], members: Mapping[str, Content]) -> None:
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = _size(content)
            with _opened(content) as source:
                archive.addfile(info, source)


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _opened(content: Content) -> IO[bytes]:
    return BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def read_archive(path: Path) -> Iterator[Member]:
    """Yield the files of an archive in its order, and refuse whatever a bundle cannot hold.

    Nothing is unpacked to disk, and no header is read whole that is larger than `PIECE`.

    Raises:
        BundleError: the archive is damaged, or holds a link, a device, a path that leads out of it, a name twice, or
            far more than its size suggests.
    """
    names: set[str] = set()
    left = MAX_RATIO * path.stat().st_size + FREE_BYTES
    with _damage_named(path):
        for member in _read_zip(path) if _is_zip(path) else _read_tar(path):
            left -= max(0, member.size - DEFAULT_PAGE_SIZE) if member.name.endswith(".beton") else member.size
            _check_member(path, member, names, left)
            yield member


def _check_member(path: Path, member: Member, names: set[str], left: int) -> None:
    shown, parts = plain(member.name)[:80], PurePosixPath(member.name).parts
    if not parts or member.name.startswith("/") or ".." in parts or "\\" in member.name or ":" in member.name:
        raise BundleError(f"{path}: holds '{shown}', a path that leads out of the archive; {STOPPED}")
    if member.name in names:
        raise BundleError(f"{path}: holds '{shown}' twice; {STOPPED}")
    if left < 0:
        raise BundleError(f"{path}: '{shown}' makes it unpack to more than {MAX_RATIO} times its size; {STOPPED}")
    names.add(member.name)
    if len(names) > MAX_MEMBERS:
        raise BundleError(f"{path}: holds more than {MAX_MEMBERS:,} files; {STOPPED}")


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn what Python's readers raise on damaged archives into one error."""
    try:
        yield
    except FastDCError:
        raise
    except (RuntimeError, *DAMAGE) as error:  # RuntimeError: encrypted
        raise BundleError(
            f"{path}: cannot be read as a bundle ({one_line(error)}); get it again, or pack it again"
        ) from error


def _pieces(path: Path, content: IO[bytes]) -> Iterator[bytes]:
    with _damage_named(path):
        while piece := content.read(PIECE):
            yield piece


def _is_zip(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(4) == b"PK\x03\x04"


def _read_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if info.is_dir() or (mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode)):
                raise BundleError(f"{path}: holds '{plain(info.filename)[:80]}', a link or folder; expected only files")
            with archive.open(info) as content:
                yield Member(info.filename, info.file_size, _pieces(path, content))


class _Headers(gzip.GzipFile):
    """Unpacked tar that refuses to read a huge header into memory."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= PIECE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _read_tar(path: Path) -> Iterator[Member]:
    with _Headers(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
        for info in archive:
            content = archive.extractfile(info) if info.isreg() and not info.issparse() else None
            if content is None:
                raise BundleError(f"{path}: holds '{plain(info.name)[:80]}', a link or folder; expected only files")
            yield Member(info.name, info.size, _pieces(path, content))
