"""Lock files between processes, and detect file systems without locks, such as some NFS and Lustre mounts."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from fastdc.common.log import log_message

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_warned: set[int] = set()


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs.

    On a file system without locks the block runs unprotected, after one warning. filelock's own substitute, a marker
    file, is not used: a process killed on another host would leave its marker, which blocks every later command.

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
    device = path.parent.stat().st_dev
    if device not in _warned:  # once for each file system
        _warned.add(device)
        log_message(
            f"warning: {path.parent}: its file system has no locks ({reason}); run one fastdc command at a time there"
        )
    yield False


def missing_locks(folder: Path) -> str | None:
    """Return the system's reason why files in `folder` cannot be locked; None if they can, or on any other error.

    Both kinds of lock are tried: `flock`, which our lock files use, and `fcntl`, which SQLite uses.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(probe, fcntl.LOCK_UN)  # NFS maps both kinds to one, so they would exclude each other
            fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return os.strerror(error.errno) if error.errno in NO_LOCKS else None
    return None
