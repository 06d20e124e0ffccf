"""Open the store's file, which is created whole or not at all, checked before use, and never overwritten."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from fastdc.common.crash_points import hit
from fastdc.common.errors import OutputError, StoreError
from fastdc.common.files import open_temporary
from fastdc.common.locks import missing_locks
from fastdc.sweep.store.read_only import SIDE_FILES, connect_reader

SCHEMA_VERSION = 3
APPLICATION_ID = 0x66646331  # "fdc1", in the file's header: distinguishes a store from other SQLite files
LOCK_SECONDS = 60.0
SQLITE_MAGIC = b"SQLite format 3\x00"
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "9p", "fuse.sshfs", "afs")

# Finished runs to run once more. Their row in `runs` stays `done`, with its result, until the new result is stored.
SCHEMA_REDO = """
CREATE TABLE IF NOT EXISTS redo (
    key TEXT PRIMARY KEY REFERENCES runs (key),
    label TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'interrupted')),
    pid INTEGER, host TEXT, born TEXT, token TEXT, heartbeat REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    changed REAL NOT NULL
) WITHOUT ROWID;
"""
# What computed each run that has ended: versions, machine, seeds, seconds and memory, as JSON. It has its own table,
# because every sweep reads all of `runs`.
SCHEMA_PROVENANCE = """
CREATE TABLE IF NOT EXISTS provenance (key TEXT PRIMARY KEY REFERENCES runs (key), provenance TEXT NOT NULL);
"""
# Columns that schema 3 added, by table.
ADDED = {
    "runs": "failure TEXT CHECK (failure IN ('method', 'infrastructure', 'diverged'))",
    "superseded": "provenance TEXT",
}
SCHEMA = (
    """
CREATE TABLE runs (
    key TEXT PRIMARY KEY,
    axes TEXT NOT NULL,
    label TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'done', 'failed', 'diverged', 'skipped', 'interrupted')),
    reason TEXT, trace TEXT,
    pid INTEGER, host TEXT, born TEXT, token TEXT, heartbeat REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    changed REAL NOT NULL,
    failure TEXT CHECK (failure IN ('method', 'infrastructure', 'diverged'))
) WITHOUT ROWID;
CREATE INDEX runs_axes ON runs (axes);
CREATE TABLE results (key TEXT PRIMARY KEY REFERENCES runs (key), summary TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE superseded (key TEXT NOT NULL, label TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, summary TEXT,
                         detail TEXT, changed REAL NOT NULL, provenance TEXT);
CREATE TABLE subsets (key TEXT PRIMARY KEY, label TEXT NOT NULL, cost TEXT NOT NULL);
CREATE TRIGGER done_is_final BEFORE UPDATE ON runs WHEN OLD.state = 'done'
BEGIN SELECT RAISE(ABORT, 'a finished run is never changed'); END;
CREATE TRIGGER results_are_final BEFORE UPDATE ON results
BEGIN SELECT RAISE(ABORT, 'a result is never changed'); END;
"""
    + SCHEMA_REDO
    + SCHEMA_PROVENANCE
)


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's exceptions about the file into errors that name the remedy.

    Raises:
        StoreError: the store cannot be used.
        OutputError: the disk is full.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "decode to UTF-8" in text:  # a changed byte in a text, which SQLite reports as an operational error
            raise damaged(path, text) from error
        check_locks(path)  # on a file system without locks SQLite reports a locked file or a failing disk
        if "full" in text:
            raise OutputError(f"{path}: disk full while writing the store; free space and run again") from error
        if "disk I/O" in text:
            text = "disk I/O error: the disk is full, over quota or failing; free space or check it, and run again"
        elif "locked" in text:
            text = f"still locked by another process after {LOCK_SECONDS:.0f} s; end that process or wait for it"
        elif "readonly" in text:
            text = "is read-only for this user; change its permissions, or copy the folder and work on the copy"
        raise StoreError(f"{path}: {text}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)) from error


def check_locks(path: Path) -> None:
    """Refuse a store on a file system without locks.

    Raises:
        StoreError: files in the folder of `path` cannot be locked.
    """
    if (reason := missing_locks(path.parent)) is not None:
        raise StoreError(
            f"{path}: its file system has no locks ({reason}), which a sweep's store needs; put --workdir on a local "
            "disk, or mount with locks (Lustre: -o flock, NFS: with its lock service)"
        )


def check_side_files(path: Path) -> None:
    """Refuse a store whose side files belong to another user, before SQLite reports the store itself as read-only.

    Raises:
        StoreError: a side file cannot be written; names the file, its owner, and what to do.
    """
    for side in (path.with_name(path.name + suffix) for suffix in SIDE_FILES):
        with suppress(FileNotFoundError):  # another process may close the store, and so remove the file, at any moment
            if side.exists() and os.access(path, os.W_OK) and not os.access(side, os.R_OK | os.W_OK):
                owner, advice = _owner(side), "have it made writable (chmod a+rw): it may hold the last results"
                if not side.name.endswith("-journal") and not _has_log(path):
                    advice = "remove it while no sweep is running here: it holds no results"
                raise StoreError(f"{side}: belongs to {owner} and cannot be written by this user; {advice}")


def _has_log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _owner(path: Path) -> str:
    try:
        return f"user {path.owner()}"
    except KeyError:  # the user exists only on another machine
        return f"user {path.stat().st_uid}"


_REMEDY = (
    "Move it away, with its -wal and -shm file, and run the sweep again (subsets and observers are reused), "
    "or restore a backup"
)


def damaged(path: Path, what: str) -> StoreError:
    """Return the error for a damaged store, with the remedy."""
    return StoreError(f"{path}: damaged ({' '.join(what.split())[:200]}); it was not touched. {_REMEDY}")


def open_database(path: Path, readonly: bool = False) -> sqlite3.Connection:
    """Open a checked connection in autocommit mode; create a missing file unless `readonly`.

    Raises:
        StoreError: there is no store (`readonly`), or the file is not SQLite, has zero bytes, is truncated, belongs to
            another program, or has a newer schema.
        OutputError: the store cannot be created in its folder.
    """
    if not readonly:
        check_locks(path)
    if not path.exists():
        if readonly:
            raise StoreError(f"{path}: no result store here; run `fastdc sweep ... --workdir {path.parent}` first")
        wal = path.with_name(path.name + "-wal")
        # SQLite would replay an orphaned log into the new store. The store is looked for again, because another sweep
        # may have created both files since.
        if wal.exists() and not path.exists():
            raise StoreError(
                f"{wal}: belongs to a store that is not here and may hold its last results; put {path.name} back, or "
                f"move the -wal and -shm file to where it is"
            )
        _create(path)
    _check_file(path)
    if not readonly:
        check_side_files(path)
    with store_errors(path):
        connection = connect_reader(path, LOCK_SECONDS) if readonly else _connect(path)
        try:
            if _check_schema(connection, path) < SCHEMA_VERSION and not readonly:
                _upgrade(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    # The threads that send heartbeats share the connection; `Store` has a lock for it.
    connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _check_file(path: Path) -> None:
    """Refuse a file that is not a whole SQLite file; SQLite might treat it as an empty one and write to it."""
    if path.is_dir():
        raise StoreError(f"{path}: is a folder, expected the store's file; move it away")
    try:
        with path.open("rb") as handle:
            head = handle.read(100)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); change its permissions") from error
    size = path.stat().st_size
    if not size:
        raise StoreError(f"{path}: has zero bytes, expected a result store; it was not touched. {_REMEDY}")
    if not head.startswith(SQLITE_MAGIC) or len(head) < 100:
        raise StoreError(f"{path}: is not a SQLite file, expected a result store; it was not touched. {_REMEDY}")
    # SQLite's header: the page size is at byte 16, where 1 stands for 65536, and the number of pages is at byte 28.
    page = int.from_bytes(head[16:18], "big")
    expected = (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")
    wal = path.with_name(path.name + "-wal")
    # With a write-ahead log the main file may be shorter than its header states.
    if size < expected and not (wal.exists() and wal.stat().st_size):
        raise StoreError(f"{path}: truncated: {size:,} bytes, expected {expected:,}; it was not touched. {_REMEDY}")


def _check_schema(connection: sqlite3.Connection, path: Path) -> int:
    """Return the file's schema version; refuse another program's file and a newer schema."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if application != APPLICATION_ID:
        raise StoreError(f"{path}: is a SQLite file of another program, expected a result store; it was not touched")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: has schema version {version}, but this fastdc supports only versions up to "
            f"{SCHEMA_VERSION}; it was not touched. Update fastdc (pip install -U fastdc)"
        )
    return version


def _upgrade(connection: sqlite3.Connection) -> None:
    """Upgrade a store of an older schema, whole or not at all; two sweeps may do so at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if int(connection.execute("PRAGMA user_version").fetchone()[0]) < SCHEMA_VERSION:  # no other sweep was first
            connection.execute(SCHEMA_REDO)
            connection.execute(SCHEMA_PROVENANCE)
            for table, column in ADDED.items():
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


def _create(path: Path) -> None:
    """Create an empty store under a temporary name and link it into place, so that one of two creators wins whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_temporary(path) as (_, temporary):
            _fill(temporary, path)
            hit("store.created")
            _link(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be created ({error.strerror}); choose another --workdir") from error


def _fill(temporary: Path, path: Path) -> None:
    """Write the empty store that is to become `path`."""
    try:
        with store_errors(path), closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            mode = "DELETE" if on_network(path.parent) else "WAL"
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.executescript(
                f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
    finally:
        for suffix in SIDE_FILES:
            temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # another sweep was first; its empty store serves as well
    except OSError:  # the file system has no hard links
        if not path.exists():
            os.replace(temporary, path)


def on_network(folder: Path) -> bool:
    """Return whether `folder` is on a network file system, where SQLite's write-ahead log is unsafe."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return False
    real = folder.resolve()
    # The longest mount point that holds the folder counts. The kernel writes a space in it as \040.
    holders = [(len(fields[1]), fields[2]) for fields in mounts if real.is_relative_to(fields[1].replace("\\040", " "))]
    return bool(holders) and max(holders)[1] in NETWORK_FILE_SYSTEMS
