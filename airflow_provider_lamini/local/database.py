"""A small SQLite file with a write-ahead log, used from any thread."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.local.store import StoreClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Value = str | int | float | bytes | None


class Database:
    """One file, one connection, one statement or transaction at a time.

    :param path: the file; made if missing
    :param schema: statements that make its tables if they are missing
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(schema)

    def read(self, sql: str, *values: Value) -> list[tuple[Any, ...]]:
        """The rows of a query.

        :param sql: the query
        :param values: its parameters
        :raises StoreClosedError: the file was closed
        """
        with self._lock:
            self._refuse_closed()
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is kept, or nothing where the block raises.

        :raises StoreClosedError: the file was closed
        """
        with self._lock:
            self._refuse_closed()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        with self._lock:
            self._closed = True
            self._db.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreClosedError
