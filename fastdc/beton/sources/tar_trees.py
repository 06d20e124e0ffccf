"""Read plain and compressed tar archives without unpacking them to disk.

A tar that contains only tars, such as ImageNet's training set, is read as one folder per inner tar.
"""

import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from fastdc.beton.positioned_io import read_range
from fastdc.beton.sources.archive_tree import DAMAGE, ArchiveTree
from fastdc.beton.sources.trees import MAX_FILE_BYTES, Fetch, check_size
from fastdc.common.errors import SourceError

STREAM_BLOCK = 1 << 20
"""Bytes that are read at a time from a compressed archive."""


class StrictMember(tarfile.TarInfo):
    """Tar header that must be valid: `tarfile` itself takes a damaged or truncated one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "StrictMember":
        """Read the next header, as `tarfile.TarInfo.fromtarfile` does.

        Every version of Python reads every header through this method.
        """
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the zero block that marks the end of an archive
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no end marker: {error}") from error


class PlainTarTree(ArchiveTree[tuple[int, int]]):
    """Uncompressed tar. One pass reads the headers; each file is then read at its offset in the archive.

    A tar that contains only tars holds one folder per inner tar, named like it without ".tar".
    """

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        with tarfile.open(source, "r:", tarinfo=StrictMember) as archive:
            _add_tar_members(self, archive)
        if self.members and all(name.lower().endswith(".tar") for name in self.members):
            self._enter_inner()
        self._descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)

    def _enter_inner(self) -> None:
        """Replace each inner tar by its files, which lie uncompressed in the outer one."""
        inner = self.clear()
        with self.source.open("rb") as handle:
            for name, (start, size) in inner.items():
                handle.seek(start)  # tarfile counts its offsets from the start of the outer file, too
                try:
                    with tarfile.open(fileobj=handle, mode="r:", tarinfo=StrictMember) as archive:
                        _add_tar_members(self, archive, f"{name[:-4]}/")
                        if archive.offset >= start + size:  # its end marker is that of a tar behind it
                            raise tarfile.ReadError("no end marker")
                except DAMAGE as error:
                    raise SourceError(
                        f"{self.source}: {name} in it is an incomplete tar ({error}); get it again"
                    ) from error

    def _read(self, member: tuple[int, int]) -> bytes:
        offset, size = member
        _check_size(offset, size)
        data = read_range(self._descriptor, offset, size)
        if len(data) != size:
            raise SourceError(f"the archive ends after {len(data)} of its {size} bytes; get the archive again")
        return data

    def close(self) -> None:
        os.close(self._descriptor)


class PackedTarTree(ArchiveTree[tuple[int, int]]):
    """Compressed tar, read from front to back twice: for the names, then for the files in the archive's order."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        # "r|*" reads a stream: seeking backwards in a compressed file would unpack it again from its start.
        with tarfile.open(source, "r|*", bufsize=STREAM_BLOCK, tarinfo=StrictMember) as archive:
            _add_tar_members(self, archive)

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`. The order is that of the archive."""
        wanted: dict[int, list[int]] = {}
        for number, path in enumerate(paths):
            # The offset in the unpacked stream identifies a member even if its name occurs twice.
            wanted.setdefault(self.members[path][0], []).append(number)
        for number in wanted.pop(-1, ()):  # links and devices, which have no data
            yield number, lambda: _check_size(-1, 0)
        try:
            with tarfile.open(self.source, "r|*", bufsize=STREAM_BLOCK, tarinfo=StrictMember) as archive:
                for member in archive:
                    forget_headers(archive)
                    numbers = wanted.get(member.offset_data) if member.isreg() else None
                    if numbers:  # several when hard links share the file
                        fetch = read_streamed(archive, member)
                        yield from ((number, fetch) for number in numbers)
        except DAMAGE as error:
            raise SourceError(f"{self.source}: cannot be read to its end ({error}); get it again") from error


def _add_tar_members(tree: ArchiveTree[tuple[int, int]], archive: tarfile.TarFile, folder: str = "") -> None:
    """Add every member below `folder`."""
    places: dict[str, tuple[int, int]] = {}
    for member in archive:
        forget_headers(archive)
        if member.isdir():
            tree.add(folder + member.name, None)
        elif member.isreg() and not member.issparse():  # a sparse member is stored without its holes
            places[member.name] = (member.offset_data, member.size)
            tree.add(folder + member.name, places[member.name])
        elif member.islnk():  # tar stores the second name of one file as a hard link to the first
            tree.add(folder + member.name, places.get(member.linkname, (-1, 0)))
        else:
            tree.add(folder + member.name, (-1, 0))  # listed, but `_check_size` refuses to read it
            if member.issym():
                tree.add_link(folder + member.name, member.linkname)


def forget_headers(archive: tarfile.TarFile) -> None:
    """Drop the headers that tarfile collects for random access, which this module does not use."""
    archive.members = []  # type: ignore[attr-defined]


def read_streamed(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Fetch:
    """Read a stream's member now, and return a function that returns its bytes.

    If the member is too large, it is not read, and the function raises instead.
    """
    if member.size > MAX_FILE_BYTES:
        return lambda: _check_size(0, member.size)
    stream = archive.extractfile(member)
    data = b"" if stream is None else stream.read()
    return lambda: data


def _check_size(offset: int, size: int) -> bytes:
    if offset < 0:
        raise SourceError("a link or device inside an archive, expected a file")
    check_size(size)
    return b""
