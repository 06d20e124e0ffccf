"""Read and write the store's file, in transactions, from several threads."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from fastdc.sweep.store.schema import damaged, open_database, store_errors


class StoreFile:
    """SQLite file of one sweep folder.

    Args:
        path: `DIR/store.sqlite`; created if missing, unless `readonly`.
        readonly: read an existing store, which may be in a read-only folder.

    Raises:
        StoreError: the file is missing (`readonly`), not a store, damaged, or of a newer fastdc. It is not touched.
        OutputError: it cannot be created, or the disk is full.
    """

    def __init__(self, path: Path, readonly: bool = False) -> None:
        self.path = path
        self._connection = open_database(path, readonly)
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. The last process to close it merges the write-ahead log into it."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, store_errors(self.path):
            if self._connection.in_transaction:  # a signal interrupted an earlier call between BEGIN and its try block
                self._connection.rollback()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, store_errors(self.path):
            return self._connection.execute(query, values).fetchall()

    def _plain(self, text: str) -> dict[str, Any]:
        """Parse a stored JSON object; raise `StoreError` for any other text."""
        try:
            value = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise damaged(self.path, str(error)) from error
        if not isinstance(value, dict):
            raise damaged(self.path, f"found {type(value).__name__}, expected a JSON object")
        return value

    def check(self) -> None:
        """Check the whole file for damage, before much work is added to it. It takes 1 s per GB from memory.

        Raises:
            StoreError: the file is damaged; it was not touched.
        """
        found = [str(row[0]) for row in self._rows("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            raise damaged(self.path, found[0])
