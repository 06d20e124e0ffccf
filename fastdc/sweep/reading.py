"""A result store opened to be read. Nothing is left beside it, for a reader may be another user than the sweep's."""

import os
import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from fastdc.errors import StoreError
from fastdc.locks import missing_locks

SIDE_FILES = ("-wal", "-shm", "-journal")
TRIES = 5
_WRITE_VERSION = 18
"""Byte of the file's header: 2 with a write-ahead log, 1 with a rollback journal."""


def connect_reader(path: Path, lock_seconds: float) -> sqlite3.Connection:
    """Connect to a store that a sweep has open now, or to a copy in memory of one that lies still.

    SQLite would make a -wal and a -shm file to read the latter, and the sweep's owner could not write those.

    Raises:
        sqlite3.Error: it is damaged, or locked for longer than `lock_seconds`.
        StoreError: it changes all the time.
    """
    for _ in range(TRIES):
        if _is_shared(path) and missing_locks(path.parent) is None:
            try:
                return _join(path, lock_seconds)
            except sqlite3.OperationalError as error:  # a journal or log of a killed sweep has to be played back
                if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                    raise
        if (copied := _copy(path)) is not None:
            return copied
    raise StoreError(f"{path}: changes while it is read; run the command again")


def _is_shared(path: Path) -> bool:
    """Whether SQLite can read it here without a new file beside it."""
    with path.open("rb") as handle:
        rolls_back = handle.read(_WRITE_VERSION + 1)[-1:] == b"\x01"
    return rolls_back or all(_side(path, suffix).exists() for suffix in ("-wal", "-shm"))


def _join(path: Path, lock_seconds: float) -> sqlite3.Connection:
    uri = path.absolute().as_uri() + "?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=lock_seconds, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _copy(path: Path) -> sqlite3.Connection | None:
    """The store in memory, with what its log or journal holds; None where it changed meanwhile."""
    with TemporaryDirectory(prefix="fastdc-store-") as folder:
        try:
            before = _state(path)
            for file in before:
                shutil.copyfile(file, Path(folder, file.name))
            if _state(path) != before:
                return None
        except FileNotFoundError:  # a sweep has just ended
            return None
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
    """What tells a change of the store: its files, without the index that SQLite makes again."""
    files = [path, *(_side(path, suffix) for suffix in SIDE_FILES if suffix != "-shm")]
    found = {file: os.stat(file) for file in files if file.exists()}
    return {file: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for file, stat in found.items()}


def _side(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
