"""Locks between processes, and file systems that have none, as some NFS and Lustre mounts."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from fastdc.progress import say

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_warned: set[int] = set()


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs.

    A file system without locks gives one warning, and the block runs unprotected. filelock's own substitute, a marker
    file, is not used: what a killed process of another host leaves would block every later command.

    Args:
        timeout: seconds to wait for another process; -1 waits without limit.

    Yields:
        Whether the lock is held.

    Raises:
        filelock.Timeout: another process holds it.
    """
    reason = missing_locks(path.parent)
    if reason is None:
        with FileLock(path, timeout=timeout):
            yield True
        return
    _warn_once(path.parent, reason)
    yield False


def missing_locks(folder: Path) -> str | None:
    """Return why files in `folder` cannot be locked, in the system's words; None where they can, or where none fits.

    Both kinds are tried: `flock` of our lock files and `fcntl` of SQLite.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(probe, fcntl.LOCK_UN)  # NFS makes one kind of both, which would exclude each other
            fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return os.strerror(error.errno) if error.errno in NO_LOCKS else None
    return None


def _warn_once(folder: Path, reason: str) -> None:
    """Warn of the file system that holds `folder`, once for each process."""
    device = folder.stat().st_dev
    if device not in _warned:
        _warned.add(device)
        say(f"warning: {folder}: its file system has no locks ({reason}); run one fastdc command at a time there")
