"""A small SQLite database that any thread can use."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Value = str | int | float | bytes | None


class DatabaseClosedError(RuntimeError):
    """The database was closed because the platform is stopping."""


class Database:
    """A SQLite file in write-ahead mode, with one connection and one statement or transaction at a time.

    :param path: the database file, created if missing
    :param schema: SQL that creates the tables if they do not exist
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
        """Run a query and return all its rows.

        :param sql: the query
        :param values: its parameters
        :raises DatabaseClosedError: the database was closed
        """
        with self._lock:
            self._check_open()
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a transaction: commit at its end, roll back if it raises.

        :raises DatabaseClosedError: the database was closed
        """
        with self._lock:
            self._check_open()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the database. Closing it twice is harmless."""
        with self._lock:
            self._closed = True
            self._db.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseClosedError
