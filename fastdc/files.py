"""Files that are either whole or absent: temporary name, fsync, atomic rename."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

from fastdc.errors import OutputError
from fastdc.faults import hit

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_output(path: Path, force: bool, inputs: Sequence[Path] = ()) -> None:
    """Refuse, before any work is done, an output that cannot or should not be written.

    Args:
        path: the file to write.
        force: an existing file may be replaced.
        inputs: what the command reads; these may never be replaced, `force` or not.

    Raises:
        OutputError: `path` is one of `inputs`, it exists and `force` is false, it is a folder, device or pipe, or its
            folder is missing or cannot be written, or its name is too long.
    """
    _check_name(path)
    check_not_input(path, inputs)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected a file name to write; give the file a name inside it")
    if path.exists() and not path.is_file():  # /dev/stdout, say: a rename would put a file in its place
        raise OutputError(f"{path}: is a device or pipe, expected a file to write; give the name of a file")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; choose another name or add --force to replace it")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: folder {folder} does not exist; create it first (mkdir -p {folder})")
    _check_creatable(path)


def check_not_input(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output that is one of the files which the command reads: `force` is no permission to lose those.

    Raises:
        OutputError: `path` leads to the same file as one of `inputs`, by whatever name or link.
    """
    for given in inputs:
        if _is_same_file(path, given):
            name = "" if path == given else f" ({given})"
            raise OutputError(f"{path}: is an input of this command{name}; give the output another name")


def _is_same_file(first: Path, second: Path) -> bool:
    """Whether both lead to one file, or, where there is none yet, to one place."""
    try:
        return os.path.samefile(first, second)
    except OSError:  # one of them does not exist
        return os.path.realpath(first) == os.path.realpath(second)


def _temporary_name(path: Path) -> Path:
    """Return a name beside `path` for its content while that is written."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _check_name(path: Path) -> None:
    """Refuse a path that the system cannot even look up.

    Raises:
        OutputError: the name, or the path to it, is too long.
    """
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _too_long(path) from error


def _check_creatable(path: Path) -> None:
    """Refuse a file that cannot be made. Root passes every permission bit, so only trying shows it.

    Raises:
        OutputError: its name is too long for the temporary one, its folder is read-only, or the disk is full.
    """
    probe, folder = _temporary_name(path), path.parent
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _too_long(path) from error
        if error.errno in DISK_FULL:
            raise OutputError(f"{path}: disk full ({error.strerror}); free space and run again") from error
        raise OutputError(f"{path}: folder {folder} is read-only for this user; choose another folder") from error
    finally:
        with suppress(OSError):  # nearly always gone; Ctrl-C may come between the two
            probe.unlink()


def _too_long(path: Path) -> OutputError:
    """Return the error for a name that has no room for the temporary one beside it."""
    length, more = len(os.fsencode(path.name)), len(_temporary_name(Path("x")).name) - 1
    return OutputError(
        f"{path}: the name has {length} bytes and gets {more} more while it is written, which is too long for its "
        "file system (mostly 255); choose a shorter name"
    )


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success it is fsynced and renamed to `path`, else removed.

    What writers of the same file left that were killed goes first; a writer that lives holds a lock on its own.

    Raises:
        OutputError: the disk is full, over quota, or the file size limit is reached.
    """
    remove_temporaries(path.parent.glob(f".{escape(path.name)}.????????.tmp"))
    with _disk_full_named(path):
        with open_temporary(path) as (handle, temporary):
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            hit("file.written")
            os.replace(temporary, path)  # still open, so still locked
        sync_folder(path.parent)
        hit("file.replaced")


@contextmanager
def _disk_full_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OutputError(
                f"{path}: disk full while writing ({error.strerror}); free space and run again"
            ) from error
        raise


def remove_temporaries(found: Iterable[Path]) -> None:
    """Remove those of these temporary and lock files that no process holds: the system drops the lock of a dead one."""
    for stale in found:
        with suppress(OSError), stale.open("r+b") as handle:  # NFS locks only what may be written
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stale.unlink()


@contextmanager
def open_temporary(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Make a file beside `path`, locked to show that its writer lives; at the end it is removed, unless it was renamed.

    It is named before it is made, so that Ctrl-C leaves none at any moment.
    """
    while True:
        temporary = _temporary_name(path)
        try:
            with temporary.open("w+b") as handle:
                with suppress(OSError):  # a file system without locks: what killed writers left stays there
                    fcntl.flock(handle, fcntl.LOCK_EX)
                if temporary.exists():
                    yield handle, temporary
                    return
        finally:
            temporary.unlink(missing_ok=True)  # another writer may have taken it for a leftover before it was locked


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees either the old file or the new one, whole."""
    with atomic_file(path) as handle:
        handle.write(data)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # a mount that cannot sync folders
            raise
    finally:
        os.close(descriptor)


def prepare_workdir(workdir: Path) -> None:
    """Make the folder and see that it can be written.

    Raises:
        OutputError: it cannot be made, is a file, or is read-only.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        check_output(workdir / "store.sqlite", force=True)
    except OSError as error:
        raise OutputError(f"{workdir}: cannot be made ({error.strerror}); choose another --workdir") from error


def existing_folder(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists: the disk that it will lie on."""
    path = path.absolute()
    while not os.path.exists(path):  # Path.exists raises where a folder above may not be entered
        path = path.parent
    return path
