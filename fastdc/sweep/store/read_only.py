"""Open a result store for reading, without leaving files beside it.

The reader may be another user than the sweep's owner, who could not write such files.
"""

import os
import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from fastdc.common.errors import StoreError
from fastdc.common.locks import missing_locks

SIDE_FILES = ("-wal", "-shm", "-journal")
TRIES = 5
_WRITE_VERSION = 18
"""Offset of a byte in the file's header: 2 with a write-ahead log, 1 with a rollback journal."""


def connect_reader(path: Path, lock_seconds: float) -> sqlite3.Connection:
    """Connect to a store in place if that creates no file beside it, or else to a copy of it in memory.

    To read a store with a write-ahead log that no sweep has open, SQLite would create a -wal and a -shm file. The
    sweep's owner could not write those.

    Raises:
        sqlite3.Error: the store is damaged, or locked for longer than `lock_seconds`.
        StoreError: the store changed during each of `TRIES` copies.
    """
    for _ in range(TRIES):
        if _is_shared(path) and missing_locks(path.parent) is None:
            try:
                return _join(path, lock_seconds)
            except sqlite3.OperationalError as error:  # a killed sweep's journal or log must be replayed: in a copy
                if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                    raise
        if (copied := _copy(path)) is not None:
            return copied
    raise StoreError(f"{path}: changes while it is read; run the command again")


def _is_shared(path: Path) -> bool:
    """Return whether SQLite can read the store in place without creating a file beside it."""
    with path.open("rb") as handle:
        rolls_back = handle.read(_WRITE_VERSION + 1)[-1:] == b"\x01"
    return rolls_back or all(_side(path, suffix).exists() for suffix in ("-wal", "-shm"))


def _join(path: Path, lock_seconds: float) -> sqlite3.Connection:
    uri = path.absolute().as_uri() + "?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=lock_seconds, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # sqlite3.connect alone reads nothing
    except BaseException:
        connection.close()
        raise
    return connection


def _copy(path: Path) -> sqlite3.Connection | None:
    """Copy the store to memory with the content of its log or journal; return None if it changed meanwhile."""
    with TemporaryDirectory(prefix="fastdc-store-") as folder:
        try:
            before = _state(path)
            for file in before:
                shutil.copyfile(file, Path(folder, file.name))
            if _state(path) != before:
                return None
        except FileNotFoundError:  # a sweep has just ended and removed its log
            return None
        # Opened for writing, so that SQLite replays the copied log or journal.
        source = sqlite3.connect(Path(folder, path.name), isolation_level=None)
        memory = sqlite3.connect(":memory:", isolation_level=None)
        try:
            source.backup(memory)
            memory.execute("PRAGMA query_only = ON")
        except BaseException:
            memory.close()
            raise
        finally:
            source.close()
    return memory


def _state(path: Path) -> dict[Path, tuple[int, int, int]]:
    """Return inode, size and time of the store's files, by which a change is found.

    The -shm index is left out, because SQLite rebuilds it.
    """
    files = [path, *(_side(path, suffix) for suffix in SIDE_FILES if suffix != "-shm")]
    found = {file: os.stat(file) for file in files if file.exists()}
    return {file: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for file, stat in found.items()}


def _side(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
