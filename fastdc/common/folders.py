"""Write folders that are either complete or absent: temporary name, rename."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastdc.common.errors import OutputError, disk_full, is_disk_full
from fastdc.common.files import find_temporaries, sync_folder, temporary_name


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success it takes the place of `path`, else it is removed.

    A folder that is at `path` already is removed at the end, so the caller decides first whether that is right.
    Temporary folders that killed writers of the same path left behind are removed too; a live writer holds a lock.

    Raises:
        OutputError: the disk is full, or another process has made `path` in the meantime.
    """
    _remove_leftovers(path)
    temporary = temporary_name(path)
    replaces = path.is_dir()
    try:
        temporary.mkdir()
        with _opened(temporary) as descriptor:
            with suppress(OSError):  # a file system without locks: leftovers of killed writers stay
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield temporary
            _rename(temporary, path, replaces)
        sync_folder(path.parent)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(path, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, path: Path, replaces: bool) -> None:
    """Put the new folder in place; the old one is renamed first, and returns if that fails."""
    old = temporary_name(path)
    if replaces:
        os.rename(path, old)
    try:
        os.rename(temporary, path)
    except BaseException as error:
        if replaces:
            os.rename(old, path)
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise OutputError(f"{path}: another process has made it in the meantime; choose another name") from error
        raise
    if replaces:
        shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    for stale in find_temporaries(path):
        with suppress(OSError), _opened(stale) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(stale, ignore_errors=True)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
