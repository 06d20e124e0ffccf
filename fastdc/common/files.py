"""Write files that are either complete or absent: temporary name, fsync, atomic rename."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

from fastdc.common.crash_points import hit
from fastdc.common.errors import FastDCError, OutputError, disk_full, is_disk_full


def check_file(path: Path, expected: str, error: type[FastDCError]) -> None:
    """Refuse a path to read that is no regular file; reading a pipe would block.

    Args:
        expected: what the file should be, for the message.
        error: class of the error raised.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "is a device or pipe" if path.exists() else "does not exist"
        raise error(f"{path}: {found}, expected {expected}")


def check_output(path: Path, force: bool, inputs: Sequence[Path] = ()) -> None:
    """Refuse, before any work is done, an output that cannot or should not be written.

    Args:
        path: the file to write.
        force: whether an existing file may be replaced.
        inputs: files that the command reads; they are never replaced, even with `force`.

    Raises:
        OutputError: `path` is one of `inputs`; it exists and `force` is false; it is a folder, device or pipe; its
            folder is missing or cannot be written; or its name is too long.
    """
    check_not_input(path, inputs)
    try:
        if path.is_dir():
            raise OutputError(f"{path}: is a folder, expected a file name to write; give the file a name inside it")
        if path.exists() and not path.is_file():  # such as /dev/stdout: the rename would replace the device by a file
            raise OutputError(f"{path}: is a device or pipe, expected a file to write; give the name of a file")
        if path.exists() and not force:
            raise OutputError(f"{path}: exists already; choose another name or add --force to replace it")
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _too_long(path) from error
        raise
    check_place(path)


def check_place(path: Path) -> None:
    """Refuse a path at which nothing can be created.

    Raises:
        OutputError: its folder is missing or cannot be written, or its name is too long.
    """
    try:
        if not path.parent.is_dir():
            raise OutputError(f"{path}: folder {path.parent} does not exist; create it first (mkdir -p {path.parent})")
        _check_creatable(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _too_long(path) from error
        raise


def check_not_input(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output that is also an input of the command; `force` does not permit losing an input.

    Raises:
        OutputError: `path` leads to the same file as one of `inputs`, by any name or link.
    """
    for given in inputs:
        if _is_same_file(path, given):
            name = "" if path == given else f" ({given})"
            raise OutputError(f"{path}: is an input of this command{name}; give the output another name")


def _is_same_file(first: Path, second: Path) -> bool:
    """Return whether both paths lead to one file or, if a file does not exist yet, to one location."""
    try:
        return os.path.samefile(first, second)
    except OSError:  # one of them does not exist
        return os.path.realpath(first) == os.path.realpath(second)


def temporary_name(path: Path) -> Path:
    """Return a random hidden name beside `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def find_temporaries(path: Path) -> Iterator[Path]:
    """Return what lies beside `path` under a name of `temporary_name`, in use or left behind."""
    return path.parent.glob(f".{escape(path.name)}.????????.tmp")


def _check_creatable(path: Path) -> None:
    """Refuse a file that cannot be created.

    A probe file is created, because permission bits prove nothing for root or on read-only mounts.

    Raises:
        OutputError: the folder is read-only, or the disk is full.
        OSError: the temporary name is too long.
    """
    probe, folder = temporary_name(path), path.parent
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise
        if is_disk_full(error):
            raise disk_full(path, error) from error
        raise OutputError(f"{path}: folder {folder} is read-only for this user; choose another folder") from error
    finally:
        with suppress(OSError):  # usually gone already; Ctrl-C may arrive between `touch` and `unlink`
            probe.unlink()


def _too_long(path: Path) -> OutputError:
    """Return the error for a name too long to gain the affixes of its temporary file."""
    length, more = len(os.fsencode(path.name)), len(temporary_name(Path("x")).name) - 1  # minus the "x"
    return OutputError(
        f"{path}: the name has {length} bytes and gets {more} more while it is written, which is too long for its "
        "file system (mostly 255); choose a shorter name"
    )


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success it is fsynced and renamed to `path`, else removed.

    Temporary files that killed writers of the same path left behind are removed first. A live writer holds a lock on
    its own, which protects it.

    Raises:
        OutputError: the disk is full, over quota, or the file size limit is reached.
    """
    remove_temporaries(find_temporaries(path))
    try:
        with open_temporary(path) as (handle, temporary):
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            hit("file.written")
            os.replace(temporary, path)  # the handle is still open, so the file is still locked
        sync_folder(path.parent)
        hit("file.replaced")
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(path, error) from error
        raise


def remove_temporaries(found: Iterable[Path]) -> None:
    """Remove the given temporary and lock files that no process holds; the system drops a dead process's lock."""
    for stale in found:
        with suppress(OSError), stale.open("r+b") as handle:  # NFS grants exclusive locks on writable handles only
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stale.unlink()


@contextmanager
def open_temporary(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Create a locked temporary file beside `path`; it is removed at the end unless it was renamed.

    The lock shows other processes that the writer is alive. The name is chosen before the file is created, so that
    Ctrl-C never leaves a file behind.
    """
    while True:
        temporary = temporary_name(path)
        try:
            with temporary.open("w+b") as handle:
                with suppress(OSError):  # a file system without locks: leftovers of killed writers stay
                    fcntl.flock(handle, fcntl.LOCK_EX)
                # Another writer may have removed the file as a leftover before it was locked; then try a new name.
                if temporary.exists():
                    yield handle, temporary
                    return
        finally:
            temporary.unlink(missing_ok=True)  # missing after a rename, or where another writer removed it


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: a reader sees either the old file or the complete new one."""
    with atomic_file(path) as handle:
        handle.write(data)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # some mounts cannot sync folders
            raise
    finally:
        os.close(descriptor)


def store_path(workdir: Path) -> Path:
    """Return the path of the result store in a sweep's folder."""
    return workdir / "store.sqlite"


def prepare_workdir(workdir: Path) -> None:
    """Create the workdir and check that it can be written.

    Raises:
        OutputError: the folder cannot be created, is a file, or is read-only.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        check_output(store_path(workdir), force=True)
    except OSError as error:
        raise OutputError(f"{workdir}: cannot be made ({error.strerror}); choose another --workdir") from error


def existing_folder(path: Path) -> Path:
    """Return `path`, or its nearest existing parent, which lies on the disk that `path` will use."""
    path = path.absolute()
    while not os.path.exists(path):  # unlike this, Path.exists raises if a parent may not be entered
        path = path.parent
    return path
