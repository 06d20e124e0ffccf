"""Read tar and zip archives of image folders without unpacking them to disk.

Member names never become file names, so a name like "../../etc/passwd" is harmless: such members are left out. Absolute
names, which `tar -P` writes, lose their leading slash, as they do when unpacked. A tar that contains only tars, such as
ImageNet's training set, is read as one folder per inner tar.
"""

import io
import lzma
import os
import posixpath
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Generic, TypeVar

from fastdc.beton.image_kinds import HEAD_BYTES, find_kind
from fastdc.beton.sample_order import below, in_imagefolder
from fastdc.beton.sources.trees import MAX_FILE_BYTES, Fetch, FolderTree, Listing, Tree, is_hidden, is_image, read_range
from fastdc.beton.sources.zip_names import member_names
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message

if TYPE_CHECKING:
    from typing_extensions import Buffer

Member = TypeVar("Member")
_BLOCK = 1 << 20
_NAMED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError)
_DAMAGE = (*_NAMED, ValueError, TypeError, ArithmeticError, LookupError, NotImplementedError, struct.error)
"""Exceptions that Python's readers raise on damaged files: their own, and any that their parsing code triggers."""


def open_tree(source: Path) -> Tree:
    """Open an image folder, or a tar (plain or compressed) or zip archive of one.

    Raises:
        SourceError: the source does not exist, cannot be read, or is not an archive.
    """
    if source.is_dir():
        return FolderTree(source)
    if not source.is_file():  # opening a FIFO or device could block, so reject them first
        found = "is neither folder nor file" if source.exists() else "does not exist"
        raise SourceError(f"{source}: {found}; expected an image folder or a tar or zip archive of one")
    try:
        tree = _open_archive(source)
    except _DAMAGE as error:
        raise SourceError(f"{source}: {_explain(source, error)}") from error
    left_out = _why_no_images(tree)
    if left_out is not None:
        tree.close()
        raise SourceError(f"{source}: {left_out}; pack the folder from inside (tar -C FOLDER -cf FILE .)")
    if tree.outside:
        log_message(f"warning: {source}: files with '..' in their names are left out, such as {tree.outside}")
    return tree


def _why_no_images(tree: "ZipTree | PlainTarTree | PackedTarTree") -> str | None:
    """Return why an archive's images were all left out; None if at least one was kept, or if it has none."""
    if tree.outside and not tree.members:
        return f"every file in it has '..' in its name, such as {tree.outside}"
    hidden = "" if any(map(is_image, tree.members)) else min(tree.hidden_images(""), default="")
    return f"every image in it is hidden or litter by its name or a folder's, such as {hidden}" if hidden else None


def _open_archive(source: Path) -> "ZipTree | PlainTarTree | PackedTarTree":
    # is_zipfile only looks for a directory near the file's end, so a tar whose last member is a zip may pass too.
    if zipfile.is_zipfile(source) and not tarfile.is_tarfile(source):
        return ZipTree(source)
    return PlainTarTree(source) if _is_plain_tar(source) else PackedTarTree(source)


def _explain(source: Path, error: Exception) -> str:
    """Explain why a file cannot be read as an archive, and suggest a remedy."""
    try:
        with source.open("rb") as handle:
            kind = find_kind(handle.read(HEAD_BYTES))
    except OSError as unread:
        return f"cannot be read ({unread.strerror})"
    if kind is not None:
        advice = kind.advice or "put the images into a folder per class"
        return f"it is {kind.name}, expected an image folder, or a tar or zip archive of one; {advice}"
    reason = " ".join(str(error).split()) or type(error).__name__
    expected = "expected an image folder, or a tar or zip archive of one"
    return f"cannot be read as an archive ({reason}), {expected}; if it is one, it is damaged or cut off: get it again"


def _is_plain_tar(source: Path) -> bool:
    try:
        with tarfile.open(source, "r:"):
            return True
    except tarfile.TarError:
        return False


class _StrictMember(tarfile.TarInfo):
    """Tar header that must be valid: `tarfile` itself takes a damaged or truncated one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_StrictMember":
        """Read the next header, as `tarfile.TarInfo.fromtarfile` does.

        Every version of Python reads every header through this method.
        """
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the zero block that marks the end of an archive
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no end marker: {error}") from error


class ArchiveTree(Generic[Member]):
    """Tree of folders and files, built from the names of an archive's members.

    Args:
        source: path of the archive.

    Attributes:
        members: how to read each file, by its path.
        outside: the first name left out because it leads out of the archive's folder; "" if there is none.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.name = source.name
        self.members: dict[str, Member] = {}
        self.outside = ""
        self._folders: dict[str, tuple[dict[str, None], dict[str, None]]] = {"": ({}, {})}
        self._left_out: set[str] = set()
        self._links: dict[str, str] = {}

    def hidden_images(self, root: str) -> Iterator[str]:
        """Yield the images that this tree leaves out; see `Tree`."""
        yield from filter(below(root), self._left_out)
        for link, target in self._links.items():
            folder = posixpath.normpath(posixpath.join(posixpath.dirname(link), target)).lstrip("/")  # as for names
            if folder in self._folders and below(root)(f"{link}/"):
                inner = (name for name in self.members if name.startswith(f"{folder}/") and in_imagefolder(name))
                yield from (link + name[len(folder) :] for name in inner)

    def add_link(self, name: str, target: str) -> None:
        """Record a symbolic link; links to folders are not followed."""
        self._links["/".join(part for part in name.split("/") if part not in ("", "."))] = target

    def add(self, name: str, member: Member | None) -> None:
        """Add a file, or a folder when `member` is None.

        If several members share a name, the last one counts, as in tar.
        """
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            self.outside = self.outside or ("" if member is None else name)
            return
        if any(map(is_hidden, parts)):
            if member is not None and in_imagefolder(name):
                self._left_out.add("/".join(parts))
            return
        for depth in range(len(parts) if member is None else len(parts) - 1):
            self._folders["/".join(parts[:depth])][0][parts[depth]] = None
            self._folders.setdefault("/".join(parts[: depth + 1]), ({}, {}))
        if member is not None and parts:
            self._folders["/".join(parts[:-1])][1][parts[-1]] = None
            self.members["/".join(parts)] = member

    def clear(self) -> dict[str, Member]:
        """Remove all files and folders, and return the files."""
        members, self.members, self._folders = self.members, {}, {"": ({}, {})}
        self._left_out, self._links = set(), {}
        return members

    def list_folder(self, path: str, follow: bool = True) -> Listing:
        """List the folders and files directly in `path`; see `Tree`."""
        folders, files = self._folders[path]
        return Listing(list(folders), [name for name in files if name not in folders])


class PlainTarTree(ArchiveTree[tuple[int, int]]):
    """Uncompressed tar. One pass reads the headers; each file is then read at its offset in the archive.

    A tar that contains only tars holds one folder per inner tar, named like it without ".tar".
    """

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        with tarfile.open(source, "r:", tarinfo=_StrictMember) as archive:
            _add_tar_members(self, archive)
        if self.members and all(name.lower().endswith(".tar") for name in self.members):
            self._enter_inner()
        self._descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)

    def _enter_inner(self) -> None:
        """Replace each inner tar by its files, which lie uncompressed in the outer one."""
        inner = self.clear()
        with self.source.open("rb") as handle:
            for name, (start, size) in inner.items():
                try:
                    with tarfile.open(fileobj=_Part(handle, start, size), mode="r:", tarinfo=_StrictMember) as archive:
                        _add_tar_members(self, archive, f"{name[:-4]}/", start)
                except _DAMAGE as error:
                    raise SourceError(f"{self.source}: {name} in it is no whole tar ({error}); get it again") from error

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`. The order is that of `paths`."""
        for number, path in enumerate(paths):
            # The default argument binds this path's member; a plain closure would see the loop's last one.
            yield number, lambda member=self.members[path]: self._read(*member)  # type: ignore[misc]

    def _read(self, offset: int, size: int) -> bytes:
        _check_size(offset, size)
        data = read_range(self._descriptor, offset, size)
        if len(data) != size:
            raise SourceError(f"the archive ends after {len(data)} of its {size} bytes; get the archive again")
        return data

    def close(self) -> None:
        """Close the archive."""
        os.close(self._descriptor)


class PackedTarTree(ArchiveTree[tuple[int, int]]):
    """Compressed tar, read from front to back twice: for the names, then for the files in the archive's order."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        # "r|*" reads a stream: seeking backwards in a compressed file would unpack it again from its start.
        with tarfile.open(source, "r|*", bufsize=_BLOCK, tarinfo=_StrictMember) as archive:
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
            with tarfile.open(self.source, "r|*", bufsize=_BLOCK, tarinfo=_StrictMember) as archive:
                for member in archive:
                    _forget(archive)
                    numbers = wanted.get(member.offset_data) if member.isreg() else None
                    if numbers:  # several when hard links share the file
                        fetch = _constant(archive, member)
                        yield from ((number, fetch) for number in numbers)
        except _DAMAGE as error:
            raise SourceError(f"{self.source}: cannot be read to its end ({error}); get it again") from error

    def close(self) -> None:
        """Do nothing: no file stays open between passes."""


class ZipTree(ArchiveTree[zipfile.ZipInfo]):
    """Zip archive. `zipfile` guards its file with a lock, so several threads may read members at once."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._archive = zipfile.ZipFile(source)
        infos = self._archive.infolist()
        if any(info.volume for info in infos):  # number of the part that holds the member, from 0
            raise SourceError(
                f"{source}: is one part of a split zip; join the parts (zip -s 0 {source.name} --out WHOLE.zip)"
            )
        for name, info in zip(member_names(source, infos), infos, strict=True):
            self.add(name, None if name.endswith("/") else info)

    def fetch_all(self, paths: Iterable[str]) -> Iterator[tuple[int, Fetch]]:
        """Yield a reader for each path; see `Tree`. The order is that of `paths`."""
        for number, path in enumerate(paths):
            yield number, lambda info=self.members[path]: self._read(info)  # type: ignore[misc]

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        _check_size(0, info.file_size)
        try:
            return self._archive.read(info)
        except RuntimeError as error:  # encrypted, or compressed by a method that Python does not support
            raise SourceError(f"cannot be unzipped ({error}); unpack the archive and give the folder") from error
        except _DAMAGE as error:
            raise SourceError(f"cannot be unzipped ({' '.join(str(error).split())})") from error

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


def _add_tar_members(
    tree: ArchiveTree[tuple[int, int]], archive: tarfile.TarFile, folder: str = "", start: int = 0
) -> None:
    """Add every member below `folder`.

    `start` is the archive's offset, in bytes, in the file that will be read.
    """
    places: dict[str, tuple[int, int]] = {}
    for member in archive:
        _forget(archive)
        if member.isdir():
            tree.add(folder + member.name, None)
        elif member.isreg() and not member.issparse():  # a sparse member is stored without its holes
            places[member.name] = (start + member.offset_data, member.size)
            tree.add(folder + member.name, places[member.name])
        elif member.islnk():  # tar stores the second name of one file as a hard link to the first
            tree.add(folder + member.name, places.get(member.linkname, (-1, 0)))
        else:
            tree.add(folder + member.name, (-1, 0))  # listed, but `_check_size` refuses to read it
            if member.issym():
                tree.add_link(folder + member.name, member.linkname)


class _Part(io.RawIOBase):
    """Read-only view of a byte range of a file, as a file object."""

    def __init__(self, handle: IO[bytes], start: int, size: int) -> None:
        self._handle, self._start, self._size, self._position = handle, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "Buffer") -> int:  # io.RawIOBase implements read() with it
        view = memoryview(buffer)
        size = max(0, min(len(view), self._size - self._position))
        self._handle.seek(self._start + self._position)
        data = self._handle.read(size)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def _forget(archive: tarfile.TarFile) -> None:
    """Drop the headers that tarfile collects for random access, which this module does not use."""
    archive.members = []  # type: ignore[attr-defined]


def _constant(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Fetch:
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
    if size > MAX_FILE_BYTES:
        raise SourceError(f"{size} bytes, expected an image of at most {MAX_FILE_BYTES}")
    return b""
